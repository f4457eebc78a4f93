"""Image files, decoded on demand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.pixels import WHITE, Color, convert, upright_size

# What Pillow raises for broken files, depending on their format.
_BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageFiles:
    """Image files, indexed like a tensor [n, 3, side, side] uint8; indexing decodes them.

    Attributes:
        paths: The files.
        side: Side in pixels to which images are resized and cropped; None: not chosen yet, so that
            they cannot be indexed.
        workers: Threads that decode; results do not depend on their number.
        background: Color behind transparent pixels.
    """

    channels: ClassVar[int] = 3  # C: files are read in RGB
    paths: tuple[str, ...]
    side: int | None = None
    workers: int = 2
    background: Color = WHITE

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Return some of the images, [b, 3, side, side] uint8: resized, then center-cropped.

        As in the paper's evaluation, the shorter side is first resized to 8/7 of `side` (256 for
        224).

        Raises:
            DataError: A file is not an image, or is broken.
            ValueError: No side is chosen.
        """
        side = self.chosen_side
        return self.read(rows, lambda image, _: center_crop(image, side))

    @property
    def chosen_side(self) -> int:
        """The side; a ValueError if none is chosen."""
        if self.side is None:
            raise ValueError("the side of image files must be chosen first, by Dataset.at")
        return self.side

    def read(self, rows: Tensor | slice, crop: Callable[[Image.Image, int], Image.Image]) -> Tensor:
        """Return crops of some of the images, [b, 3, h, w] uint8.

        Args:
            rows: [b], or a slice; one or more.
            crop: Function of an image and its position in the batch, which returns an image of
                w x h pixels. Called by several threads at a time.

        Raises:
            DataError: A file is not an image, or is broken.
        """
        indices = torch.arange(len(self))[rows].tolist()

        def load(place: int) -> Tensor:
            return to_tensor(crop(self.open(indices[place]), place))

        # Pillow decodes and resizes without the interpreter's lock.
        with ThreadPoolExecutor(self.workers) as pool:
            loaded = pool.map(load, range(len(indices)))
            first = next(loaded)
            images = first.new_empty(len(indices), *first.shape)  # filled in place: no second copy
            for place, image in enumerate(itertools.chain([first], loaded)):
                images[place] = image
        return images

    def open(self, index: int) -> Image.Image:
        """Return an image in RGB, at its own size; see `convert` of `data/pixels.py`.

        Raises:
            DataError: The file is not an image, is broken, or has values of an unknown range.
        """
        path = self.paths[index]
        try:
            with Image.open(path) as file:
                return convert(file, path, channels=self.channels, background=self.background)
        except DataError:
            raise
        except _BROKEN as error:
            raise _unreadable(path, error) from error

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yield width and height of every image as `open` returns it, read from the file's header.

        Raises:
            DataError: A file is not an image.
        """
        for path in self.paths:
            try:
                with Image.open(path) as image:
                    yield upright_size(image)
            except _BROKEN as error:
                raise _unreadable(path, error) from error

    def versions(self) -> Iterator[tuple[str, int, int]]:
        """Yield path, size in bytes and modification time in ns of every file.

        Raises:
            DataError: A file is gone.
        """
        for path in self.paths:
            try:
                status = Path(path).stat()
            except OSError as error:
                raise _unreadable(path, error) from error
            yield path, status.st_size, status.st_mtime_ns


Images = Tensor | ImageFiles  # [n, C, H, W] uint8, in memory or decoded on demand


def center_crop(image: Image.Image, side: int) -> Image.Image:
    """Return the central square, 7/8 of the shorter side, resized to `side`."""
    width, height = image.size
    crop = min(width, height) * 7 / 8  # in the image's pixels
    left, top = (width - crop) / 2, (height - crop) / 2
    box = (left, top, left + crop, top + crop)
    return image.resize((side, side), Image.Resampling.BILINEAR, box)


def to_tensor(image: Image.Image) -> Tensor:
    """Return an image in RGB as [3, H, W] uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _unreadable(path: str, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable image ({error})")
