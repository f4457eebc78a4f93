"""Images of a data set: in memory, or decoded on demand from wherever a reader finds them."""

from __future__ import annotations

import dataclasses
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.decode import Picture
from simclr_ext.trainer.data.files import image_formats
from simclr_ext.trainer.data.pixels import WHITE, Color


class Reader(Protocol):
    """Where images come from. A reader is picklable, for the processes that decode images."""

    def __len__(self) -> int:
        """Return the number of images."""

    def source(self, index: int) -> str | BytesIO | Image.Image:
        """Return an image file's path or its bytes, or an image.

        Raises:
            OSError: The file is gone.
        """

    def name(self, index: int) -> str:
        """Return an image's name for messages, such as its path."""

    def version(self, index: int) -> tuple[object, ...]:
        """Return what changes if an image changes, such as its path, size and time.

        Raises:
            OSError: The file is gone.
        """


@dataclass(frozen=True, eq=False)
class LazyImages:
    """Images that are decoded when they are indexed, like a tensor [n, C, side, side] uint8.

    Attributes:
        reader: Where they come from.
        rows: [n] int64: which of the reader's images they are.
        channels: C, 1 or 3; gray images are repeated if it is 3.
        side: Side in pixels to which images are resized and cropped; None: not chosen yet, so that
            they cannot be indexed.
        workers: Threads that decode; results do not depend on their number.
        background: Color behind transparent pixels.
        crop: Whether indexing takes the central square; if not, the whole image, as it does of
            images in memory.
    """

    reader: Reader
    rows: NDArray[np.int64]
    channels: int = 3
    side: int | None = None
    workers: int = 2
    background: Color = WHITE
    crop: bool = True

    @classmethod
    def all_of(cls, reader: Reader, background: Color = WHITE) -> LazyImages:
        """Return all images of a reader, in color."""
        return cls(reader, np.arange(len(reader)), background=background)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Return some of the images, [b, C, side, side] uint8.

        With `crop`, as in the paper's evaluation, the shorter side is first resized to 8/7 of
        `side` (256 for 224), then the center is cropped.

        Raises:
            DataError: A file is not an image, or is broken.
            ValueError: No side is chosen.
        """
        side = self.chosen_side
        crop = center_crop if self.crop else whole
        return self.read(rows, lambda picture, _: crop(picture, side))

    def take(self, rows: Tensor) -> LazyImages:
        """Return some of the images, not decoded."""
        return dataclasses.replace(self, rows=self.rows[rows.numpy()])

    @property
    def chosen_side(self) -> int:
        """The side; a ValueError if none is chosen."""
        if self.side is None:
            raise ValueError("the side of images must be chosen first, by Dataset.at")
        return self.side

    def read(self, rows: Tensor | slice, crop: Callable[[Picture, int], Tensor]) -> Tensor:
        """Return crops of some of the images, [b, C, h, w] uint8.

        Args:
            rows: [b], or a slice; one or more.
            crop: Function of a picture and its position in the batch to [C, h, w] uint8. Called by
                several threads at a time.

        Raises:
            DataError: A file is not an image, or is broken.
        """
        indices = torch.arange(len(self))[rows].tolist()

        def load(place: int) -> Tensor:
            with self.open(indices[place]) as picture:
                return crop(picture, place)

        # Pillow decodes and resizes without the interpreter's lock.
        with ThreadPoolExecutor(self.workers) as pool:
            loaded = pool.map(load, range(len(indices)))
            first = next(loaded)
            images = first.new_empty(len(indices), *first.shape)  # filled in place: no second copy
            for place, image in enumerate(itertools.chain([first], loaded)):
                images[place] = image
        return images

    @contextmanager
    def open(self, index: int) -> Iterator[Picture]:
        """Open an image, which is decoded within the block.

        Raises:
            DataError: The file is not an image, is broken, has values of an unknown range, or has
                color although the others are gray.
        """
        row = int(self.rows[index])
        name = self.reader.name(row)
        options = (name, self.channels, self.background)
        try:
            source = self.reader.source(row)
            if isinstance(source, Image.Image):
                yield Picture(source, *options)
                return
            if isinstance(source, str) and not stat.S_ISREG(os.stat(source).st_mode):  # noqa: PTH116
                raise OSError("not a regular file")  # to open a pipe would wait for its other end
            with Image.open(source, formats=image_formats()) as image:
                yield Picture(image, *options, own=True)
        except DataError:
            raise
        except Exception as error:  # decoding a damaged file may raise any exception
            raise _unreadable(name, error) from error

    def versions(self) -> Iterator[tuple[object, ...]]:
        """Yield what changes if an image changes, for every image.

        Raises:
            DataError: A file is gone.
        """
        for row in self.rows.tolist():
            try:
                yield self.reader.version(row)
            except OSError as error:
                raise _unreadable(self.reader.name(row), error) from error


Images = Tensor | LazyImages  # [n, C, H, W] uint8, in memory or decoded on demand


def center_crop(picture: Picture, side: int) -> Tensor:
    """Return the central square, 7/8 of the shorter side, resized, [C, side, side] uint8."""
    width, height = picture.size
    crop = round(min(width, height) * 7 / 8)  # in the image's pixels
    left, top = (width - crop) // 2, (height - crop) // 2
    (square,) = picture.squares([(left, top, left + crop, top + crop)], side)
    return square


def whole(picture: Picture, side: int) -> Tensor:
    """Return the whole image, resized to a square, [C, side, side] uint8."""
    (square,) = picture.squares([(0, 0, *picture.size)], side)
    return square


def _unreadable(name: str, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{name}: not a readable image ({reason})")
