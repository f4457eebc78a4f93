"""Thumbnails: small images, many of them in one picture, a sheet."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

MOST, LEAST = 64, 32  # longer side of a thumbnail in pixels
COLUMNS = 32  # of a sheet, which has at most as many rows: it is decoded as a whole
_QUALITY = 80  # of lossy WebP: about 0.8 kB for a photograph of 64 x 64


def shrink(images: Tensor) -> Tensor:
    """Return images [n, C, H, W] uint8 as thumbnails [n, C, h, w] uint8 of the same aspect.

    Images larger than 64 pixels are made smaller. Pixels of those smaller than 32 are repeated, as
    lossy compression spares no single ones.

    Example:
        >>> shrink(torch.zeros(2, 3, 128, 96, dtype=torch.uint8)).shape
        torch.Size([2, 3, 64, 48])
        >>> shrink(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([2, 1, 32, 32])
    """
    height, width = images.shape[2:]
    longer = max(height, width)
    if longer > MOST:
        size = [max(1, round(side * MOST / longer)) for side in (height, width)]
        return F.interpolate(images, size, mode="bilinear", antialias=True)
    repeats = -(-LEAST // longer)
    return images.repeat_interleave(repeats, 2).repeat_interleave(repeats, 3)


@dataclass(frozen=True)
class Sheets:
    """Thumbnails in rows, row after row, sheet after sheet.

    Attributes:
        urls: Each sheet as a data URL.
        columns: Thumbnails in a row.
        rows: Rows of a sheet; all sheets have as many.
    """

    urls: tuple[str, ...]
    columns: int
    rows: int


def make_sheets(thumbnails: Tensor) -> Sheets:
    """Return thumbnails [n, C, h, w] uint8, C = 1 or 3, n > 0, as sheets of lossy WebP."""
    rows = min(COLUMNS, max(2, -(-len(thumbnails) // COLUMNS)))
    sheets = torch.split(thumbnails, rows * COLUMNS)
    return Sheets(tuple(_sheet_url(sheet, rows) for sheet in sheets), COLUMNS, rows)


def _sheet_url(thumbnails: Tensor, rows: int) -> str:
    """Return up to rows x COLUMNS thumbnails [n, C, h, w] as the data URL of one picture."""
    _, channels, height, width = thumbnails.shape
    cells = thumbnails.new_zeros(rows * COLUMNS, channels, height, width)
    cells[: len(thumbnails)] = thumbnails
    grid = cells.view(rows, COLUMNS, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = grid.reshape(rows * height, COLUMNS * width, channels)
    picture = Image.fromarray(pixels.expand(-1, -1, 3).numpy())
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
