"""Arrays of other types and layouts to images [n, C, H, W] uint8, if their meaning is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.progress import say

_COLORS = (1, 3)
_FULL_RANGE = 2**15  # a larger uint16 value means that the range is that of uint16


def to_images(array: NDArray[Any], name: str) -> Tensor:
    """Return images [n, C, H, W] uint8, and say so if values or layout were converted.

    Args:
        array: [n, H, W], [n, H, W, C] or [n, C, H, W]; uint8, or another type whose range is
            certain: booleans, floats in [0, 1], integers in [0, 255], uint16 up to 65535.
        name: Name for messages.

    Raises:
        DataError: The array has another shape, or the range of its values is not certain.
    """
    return torch.from_numpy(np.ascontiguousarray(_channels_first(_to_uint8(array, name), name)))


def _channels_first(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(
            f"{name} must be [n, H, W], [n, H, W, C] or [n, C, H, W], got {list(array.shape)}"
        )
    if array.ndim == 3:
        return array[:, None]
    _, first, middle, last = array.shape
    if last in _COLORS or (first not in _COLORS and last < min(first, middle)):
        moved: NDArray[Any] = array.transpose(0, 3, 1, 2)
        return moved
    if first in _COLORS or first < min(middle, last):
        say(f"{name}: {list(array.shape)} is read as [n, C, H, W]")
        return array
    raise DataError(
        f"{name}: which axis of {list(array.shape)} has the channels? Save [n, H, W, C]: "
        f"X.transpose(0, 2, 3, 1)"
    )


def _to_uint8(array: NDArray[Any], name: str) -> NDArray[Any]:
    kind, dtype = array.dtype.kind, array.dtype
    if dtype == np.uint8 or array.size == 0:
        return array
    if kind not in "buif":
        raise DataError(f"{name} must be numbers, got {dtype}")
    low, high = array.min(), array.max()  # NaN if there is one
    if kind == "b":
        found, scaled = "booleans", array * np.uint8(255)
    elif kind == "f" and low >= 0 and high <= 1:
        found, scaled = f"{dtype} in [0, 1]", np.rint(array * 255)
    elif dtype == np.uint16 and high >= _FULL_RANGE:
        found, scaled = "uint16", np.rint(array / 257)
    elif kind in "ui" and low >= 0 and 1 < high <= 255:
        found, scaled = f"{dtype} in [0, 255]", array
    else:
        raise DataError(
            f"{name}: {dtype} from {low} to {high} has no certain range. Save uint8, such as "
            f'((X - X.min()) * (255 / (X.max() - X.min()))).round().astype("uint8")'
        )
    say(f"{name}: {found} is converted to uint8 in [0, 255]")
    images: NDArray[np.uint8] = scaled.astype(np.uint8)
    return images
