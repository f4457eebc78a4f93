"""`simclr-ext check`: what is wrong with a data set's files, before a training finds it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from PIL import Image
from torch import Tensor

from simclr_ext.trainer.config.commands import CheckConfig
from simclr_ext.trainer.data import Dataset, find_data
from simclr_ext.trainer.data.images import LazyImages, Reader
from simclr_ext.trainer.data.verify import find_broken

T = TypeVar("T")
_SHOWN = 20  # lines of each kind that are printed


@dataclass(frozen=True)
class CheckResult:
    """What is wrong with a data set.

    Attributes:
        name: The data set.
        images: Number of its images.
        broken: What is wrong with each image that cannot be read.
        duplicates: Names of images with the same content, a tuple for each content.
        decoded: Whether the images were decoded; if not, only their headers were read.
    """

    name: str
    images: int
    broken: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    decoded: bool

    @property
    def exit_code(self) -> int:
        """1 if anything is wrong; 0 otherwise."""
        return int(bool(self.broken or self.duplicates))

    def __str__(self) -> str:
        """Return what the command line prints."""
        read = "decoded" if self.decoded else "headers read"
        lines = [f"{self.name}: {self.images:,} images, {read}"]
        lines += _some("broken", self.broken)
        same = [" = ".join(names) for names in self.duplicates]
        lines += _some("with the same content", same)
        return "\n".join(lines if len(lines) > 1 else [*lines, "nothing is wrong"])


def run_check(config: CheckConfig) -> CheckResult:
    """Check a data set; see `simclr_ext.trainer.check_data`."""
    found = find_data(config.data, config.data_root)
    if isinstance(found, Dataset):  # in memory, so all of it has been read
        contents = (
            (f"{part} {image}", digest)
            for part, images in found.parts.items()
            for image, digest in enumerate(map(_digest_of, images.images[:]))
        )
        count = len(found.train) + len(found.test)
        same = [tuple(group) for group in _groups(contents)] if config.duplicates else []
        return CheckResult(found.name, count, (), tuple(same), decoded=True)
    images = LazyImages.all_of(found.reader)
    broken = find_broken(images, config.workers, decode=config.decode)
    same = _duplicates(found.reader, config.workers) if config.duplicates else []
    return CheckResult(found.name, len(images), tuple(broken.values()), tuple(same), config.decode)


def _digest_of(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).digest()


def _some(what: str, lines: Sequence[str]) -> list[str]:
    """Return a heading and the first lines; nothing if there are none."""
    if not lines:
        return []
    more = [f"  ... and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return [f"{len(lines):,} {what}:", *(f"  {line}" for line in lines[:_SHOWN]), *more]


def _duplicates(reader: Reader, workers: int) -> list[tuple[str, ...]]:
    """Return the names of files with the same bytes; only files of the same size are read."""
    rows = range(len(reader))
    with ThreadPoolExecutor(workers) as pool:
        sizes = _groups(zip(rows, pool.map(partial(_size, reader), rows), strict=True))
        suspects = [row for group in sizes for row in group]
        digests = pool.map(partial(_digest, reader), suspects)
        same = _groups(zip(suspects, digests, strict=True))
    return [tuple(reader.name(row) for row in group) for group in same]


def _groups(items: Iterable[tuple[T, Hashable]]) -> list[list[T]]:
    """Return the items that share their key with another one; a key of None is shared by none."""
    groups = defaultdict(list)
    for item, key in items:
        if key is not None:
            groups[key].append(item)
    return [group for group in groups.values() if len(group) > 1]


def _size(reader: Reader, row: int) -> int | None:
    """Return the size of a file in bytes; None: it is gone."""
    try:
        source = reader.source(row)
    except OSError:
        return None
    if isinstance(source, str):
        path = Path(source)
        return path.stat().st_size if path.is_file() else None
    return len(_bytes(source))


def _digest(reader: Reader, row: int) -> bytes | None:
    """Return a hash of a file's content; None: it cannot be read, which is reported as broken."""
    try:
        return hashlib.sha256(_bytes(reader.source(row))).digest()
    except OSError:
        return None


def _bytes(source: str | BytesIO | Image.Image) -> bytes:
    if isinstance(source, str):
        return Path(source).read_bytes()
    return source.getvalue() if isinstance(source, BytesIO) else source.tobytes()
