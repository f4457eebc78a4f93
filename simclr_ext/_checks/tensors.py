"""Checks of rows: what is a tensor of the right shape, dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_views(z0: Tensor, z1: Tensor, names: tuple[str, str] = ("z0", "z1")) -> None:
    """Raise TypeError or ValueError unless both are [N, D], floating (DTYPES), on one device."""
    first, second = names
    check_matrix(first, z0, "N")
    _check_floating(second, z1)
    if z1.shape != z0.shape:
        raise ValueError(
            f"{second} must have the shape of {first}, {tuple(z0.shape)}, got {tuple(z1.shape)}"
        )
    check_same_device(second, z1, first, z0)


def check_columns(name: str, y: Tensor, other_name: str, x: Tensor) -> None:
    """Raise TypeError or ValueError unless y is [K, D], floating, for rows x [N, D]."""
    check_matrix(name, y, "K")
    if y.shape[1] != x.shape[1]:
        raise ValueError(
            f"{name} must be [K, {x.shape[1]}], as wide as {other_name}, got a tensor of shape "
            f"{tuple(y.shape)}"
        )
    check_same_device(name, y, other_name, x)


def check_operator_views(z0: Tensor, z1: Tensor) -> None:
    """Raise TypeError or ValueError unless they are as the operators take them: of one dtype."""
    check_views(z0, z1)
    check_same_dtype("z1", z1, "z0", z0)


def second_view_missing(z0: Tensor) -> TypeError:
    """Return the error of a call with one tensor, which says how to split it into two views."""
    if isinstance(z0, Tensor) and z0.ndim == 3 and z0.shape[1] > 2:
        return TypeError(
            "the loss pairs two views of each image, [N, D] each, got one tensor [N, views, D] = "
            f"{tuple(z0.shape)}; pass two of them, such as z[:, 0], z[:, 1]"
        )
    return TypeError(
        "z1 is missing: pass two views, [N, D] each. Of one tensor z [2N, D] these are "
        "*z.chunk(2) if the rows are stacked (all first views, then all second), and "
        "z[0::2], z[1::2] if they are interleaved; of z [N, 2, D], *z.unbind(1)"
    )


def check_rows(x: Tensor, y: Tensor | None) -> None:
    """Raise TypeError or ValueError unless x is [R, D], and y is None or [C, D] and matches x."""
    check_matrix("x", x, "R")
    if y is None:
        return
    check_matrix("y", y, "C")
    if y.shape[1] != x.shape[1]:
        raise ValueError(
            f"y must be [C, {x.shape[1]}] with C >= 1, got a tensor of shape {tuple(y.shape)}"
        )
    check_same_dtype("y", y, "x", x)
    check_same_device("y", y, "x", x)


def check_matrix(name: str, z: Tensor, symbol: str) -> None:
    """Raise TypeError or ValueError unless z is a floating matrix that is not empty."""
    _check_floating(name, z)
    if z.ndim != 2 or z.numel() == 0:
        raise ValueError(
            f"{name} must be [{symbol}, D] with {symbol} >= 1 and D >= 1, got a tensor of shape "
            f"{tuple(z.shape)}"
        )


def _check_floating(name: str, z: Tensor) -> None:
    if not isinstance(z, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(z).__name__}")
    check_dense(name, z)
    check_floating_dtype(name, z)


def check_dense(name: str, values: Tensor) -> None:
    """Raise TypeError if a tensor is sparse, nested or of another layout."""
    if values.layout is not torch.strided or values.is_nested:
        layout = "nested" if values.is_nested else values.layout
        raise TypeError(f"{name} must be a dense tensor, got layout {layout}")


def check_data(**tensors: Tensor | None) -> None:
    """Raise ValueError if a storage is smaller than its tensor: FSDP gives it back between uses.

    torch's own functions read such tensors. Not for code that is compiled: there are no storages.
    """
    for name, values in tensors.items():
        if values is None or values.numel() == 0:
            continue
        spans = zip(values.shape, values.stride(), strict=True)
        end = 1 + values.storage_offset() + sum((size - 1) * stride for size, stride in spans)
        found = values.untyped_storage().nbytes()
        if end * values.element_size() > found:
            raise ValueError(
                f"{name} must have data, got shape {list(values.shape)} and a storage of {found} "
                "bytes"
            )


def check_same_dtype(name: str, z: Tensor, other_name: str, other: Tensor) -> None:
    """Raise TypeError unless both have one dtype."""
    if z.dtype != other.dtype:
        raise TypeError(f"{name} must have the dtype of {other_name}, {other.dtype}, got {z.dtype}")


def check_same_device(name: str, z: Tensor, other_name: str, other: Tensor) -> None:
    """Raise ValueError unless both are on one device."""
    if z.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}, {other.device}, got {z.device}"
        )


def check_floating_dtype(name: str, values: Tensor) -> None:
    """Raise TypeError unless the dtype is one of DTYPES."""
    if values.dtype not in DTYPES:
        raise TypeError(
            f"{name} must have a floating dtype, got {values.dtype}; allowed are float64, float32, "
            "bfloat16 and float16"
        )
