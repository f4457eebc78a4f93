"""Images of a data set: in memory, or decoded on demand from wherever a reader finds them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.pixels import WHITE, Color, convert, mode_channels, upright_size

T = TypeVar("T")

# What Pillow raises for broken files, depending on their format.
_BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


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
    """

    reader: Reader
    rows: NDArray[np.int64]
    channels: int = 3
    side: int | None = None
    workers: int = 2
    background: Color = WHITE

    @classmethod
    def all_of(cls, reader: Reader, background: Color = WHITE) -> LazyImages:
        """Return all images of a reader, in color."""
        return cls(reader, np.arange(len(reader)), background=background)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Return some of the images, [b, C, side, side] uint8: resized, then center-cropped.

        As in the paper's evaluation, the shorter side is first resized to 8/7 of `side` (256 for
        224).

        Raises:
            DataError: A file is not an image, or is broken.
            ValueError: No side is chosen.
        """
        side = self.chosen_side
        return self.read(rows, lambda image, _: center_crop(image, side))

    def take(self, rows: Tensor) -> LazyImages:
        """Return some of the images, not decoded."""
        return dataclasses.replace(self, rows=self.rows[rows.numpy()])

    @property
    def chosen_side(self) -> int:
        """The side; a ValueError if none is chosen."""
        if self.side is None:
            raise ValueError("the side of images must be chosen first, by Dataset.at")
        return self.side

    def read(self, rows: Tensor | slice, crop: Callable[[Image.Image, int], Image.Image]) -> Tensor:
        """Return crops of some of the images, [b, C, h, w] uint8.

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

    def name(self, index: int) -> str:
        """Return an image's name for messages."""
        return self.reader.name(int(self.rows[index]))

    def open(self, index: int) -> Image.Image:
        """Return an image in gray or RGB, at its own size; see `convert` of `data/pixels.py`.

        Raises:
            DataError: The file is not an image, is broken, has values of an unknown range, or has
                color although the others are gray.
        """
        return self._with_file(
            index,
            lambda image, name: convert(
                image, name, channels=self.channels, background=self.background
            ),
        )

    def header(self, index: int) -> tuple[tuple[int, int], int]:
        """Return (width, height) of an image as `open` returns it, and its own C; not decoded.

        Raises:
            DataError: The file is not an image.
        """
        return self._with_file(
            index, lambda image, _: (upright_size(image), mode_channels(image.mode))
        )

    def _with_file(self, index: int, use: Callable[[Image.Image, str], T]) -> T:
        row = int(self.rows[index])
        name = self.reader.name(row)
        try:
            source = self.reader.source(row)
            if isinstance(source, Image.Image):
                return use(source, name)
            with Image.open(source) as image:
                return use(image, name)
        except DataError:
            raise
        except _BROKEN as error:
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


def center_crop(image: Image.Image, side: int) -> Image.Image:
    """Return the central square, 7/8 of the shorter side, resized to `side`."""
    width, height = image.size
    crop = min(width, height) * 7 / 8  # in the image's pixels
    left, top = (width - crop) / 2, (height - crop) / 2
    box = (left, top, left + crop, top + crop)
    return image.resize((side, side), Image.Resampling.BILINEAR, box)


def to_tensor(image: Image.Image) -> Tensor:
    """Return an image in RGB or gray as [C, H, W] uint8."""
    pixels = torch.from_numpy(np.array(image))
    return pixels.permute(2, 0, 1).contiguous() if pixels.ndim == 3 else pixels[None]


def _unreadable(name: str, error: Exception) -> DataError:
    return DataError(f"{name}: not a readable image ({error})")
