"""Finding broken images before they are needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.images import Images, LazyImages
from simclr_ext.trainer.progress import on_terminal


def find_broken(images: LazyImages, workers: int, *, decode: bool = True) -> dict[int, str]:
    """Return the rows of the images that cannot be read, with what is wrong with each.

    Args:
        images: The images.
        workers: Threads that read.
        decode: Whether to decode them as well; if not, only their headers are read.
    """

    def problem(row: int) -> str | None:
        try:
            with images.open(row) as picture:
                if decode:
                    picture.whole()
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(workers) as pool:
        problems = tqdm(
            pool.map(problem, range(len(images))), "reading images", len(images), unit="",
            disable=not on_terminal(),
        )  # fmt: skip
        return {row: text for row, text in enumerate(problems) if text is not None}


def check_readable(images: Images, workers: int) -> None:
    """Decode all images, unless they are in memory.

    Raises:
        DataError: Some cannot be read; the first is named.
    """
    broken = find_broken(images, workers) if isinstance(images, LazyImages) else {}
    if broken:
        first = next(iter(broken.values()))
        more = f"; {len(broken) - 1:,} more images are broken" if len(broken) > 1 else ""
        raise DataError(
            f"{first}{more}; `simclr-ext check` lists them, images.on_broken=skip leaves them out"
        )
