"""Squares of an image, decoded no larger than they need.

A JPEG file holds the cosine transform of blocks of 8 x 8 pixels. Its decoder can transform each of
them to 4 x 4, 2 x 2 or 1 pixels instead, which are means of the block's: less work, and fewer
pixels to resize afterwards. Pillow calls this `draft`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from simclr_ext.trainer.data.pixels import (
    WHITE,
    Color,
    convert,
    mode_channels,
    opaque,
    upright,
    upright_size,
)

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the upright image


class _Place(NamedTuple):
    """How an image lies in its file."""

    exchanged: bool = False  # rows are columns
    from_right: bool = False  # and then, columns count from the right
    from_low: bool = False  # and rows from below

    def box(self, box: Box, width: int, height: int) -> Box:
        """Return where a box of the upright image is in the stored one of width x height."""
        left, top, right, low = box
        if self.exchanged:
            left, top, right, low = top, left, low, right
        if self.from_right:
            left, right = width - right, width - left
        if self.from_low:
            top, low = height - low, height - top
        return left, top, right, low

    def upright(self, stored: Tensor) -> Tensor:
        """Return a part of the stored image, [C, H, W], upright."""
        axes = [axis for axis, turned in ((2, self.from_right), (1, self.from_low)) if turned]
        stored = stored.flip(axes) if axes else stored
        return stored.mT.contiguous() if self.exchanged else stored


_STORED = {
    None: _Place(),
    Image.Transpose.FLIP_LEFT_RIGHT: _Place(from_right=True),
    Image.Transpose.ROTATE_180: _Place(from_right=True, from_low=True),
    Image.Transpose.FLIP_TOP_BOTTOM: _Place(from_low=True),
    Image.Transpose.TRANSPOSE: _Place(exchanged=True),
    Image.Transpose.ROTATE_270: _Place(exchanged=True, from_low=True),
    Image.Transpose.TRANSVERSE: _Place(exchanged=True, from_right=True, from_low=True),
    Image.Transpose.ROTATE_90: _Place(exchanged=True, from_right=True),
}


@dataclass(frozen=True)
class Picture:
    """An image whose pixels are read once, when they are asked for; `pixels.py` says how.

    Attributes:
        image: Opened by Pillow, decoded or not.
        name: Its name in errors.
        channels: C of the result, 1 or 3; None: the image's own.
        background: Color behind transparent pixels.
        own: Whether nobody else uses the image, so that it may be decoded at a smaller scale.

    Example:
        >>> picture = Picture(Image.new("L", (40, 30)), "gray")
        >>> picture.size, [tuple(s.shape) for s in picture.squares([(0, 0, 20, 30)], side=8)]
        ((40, 30), [(1, 8, 8)])
    """

    image: Image.Image
    name: str
    channels: int | None = None
    background: Color = WHITE
    own: bool = False

    @property
    def own_channels(self) -> int:
        """C of the image itself, 1 or 3."""
        return mode_channels(self.image.mode)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return upright_size(self.image)

    def whole(self) -> Tensor:
        """Return the image at its own size, [C, H, W] uint8.

        Raises:
            DataError: It cannot be converted.
        """
        return torch.from_numpy(self._read(convert).transpose(2, 0, 1).copy())

    def squares(self, boxes: Sequence[Box], side: int) -> list[Tensor]:
        """Return parts of the image, resized to `side`, bilinear and antialiased.

        A JPEG file is decoded at the smallest scale at which no box is enlarged. Edges of the boxes
        are rounded to pixels of what is decoded.

        Args:
            boxes: The parts, within the image.
            side: Side of the results in pixels.

        Returns:
            [C, side, side] uint8 for each box.

        Raises:
            DataError: The image cannot be converted.
        """
        place = _STORED[upright(self.image)]
        stored = [place.box(box, *self.image.size) for box in boxes]
        scale = _shrink(self.image, stored, side) if self.own else 1.0
        pixels = self._read(opaque)

        def square(box: Box) -> Tensor:
            left, top, right, low = (round(edge * scale) for edge in box)
            # In new memory: torch then resizes it in one pass, in this thread.
            part = torch.from_numpy(pixels[top:low, left:right].copy()).permute(2, 0, 1)[None]
            resized = F.interpolate(part, (side, side), mode="bilinear", antialias=True)
            return place.upright(resized[0])

        return [square(box) for box in stored]

    def _read(self, by: Callable[..., Image.Image]) -> NDArray[np.uint8]:
        """Return the pixels as a function of `pixels.py` reads them, [H, W, C]."""
        image = by(self.image, self.name, channels=self.channels, background=self.background)
        return np.atleast_3d(np.asarray(image))


def _shrink(image: Image.Image, boxes: Sequence[Box], side: int) -> float:
    """Choose the scale at which an image will be decoded, and return it, at most 1."""
    shortest = min(min(right - left, low - top) for left, top, right, low in boxes)
    factor = int(shortest // side)  # of which the decoder takes the next lower power of 2, up to 8
    width, height = image.size
    chosen = image.draft(None, (width // factor, height // factor)) if factor > 1 else None
    if chosen is None:  # decoded already, or not a JPEG file
        return 1.0
    _, (_, _, shrunk, _) = chosen  # not rounded, unlike the sizes
    return float(shrunk / width)
