"""Checks of what a backward pass gets: results of the forward pass, and gradients."""

from __future__ import annotations

from torch import Tensor

from simclr_ext._checks.tensors import check_dense, check_floating_dtype, check_same_device


def check_saved(
    grad_loss: Tensor, loss: Tensor, lse: Tensor, z: Tensor, inv_norm: Tensor, dim: int
) -> None:
    """Raise TypeError or ValueError unless the forward pass of NT-Xent may have returned these."""
    check_dense("z", z)
    if z.ndim != 2 or z.shape[0] < 2 or z.shape[0] % 2 or z.shape[1] < 1:
        raise ValueError(f"z must be [2N, D] with N >= 1 and D >= 1, got shape {list(z.shape)}")
    _check_saved_rows("2N", grad_loss, loss, lse, z, inv_norm, dim)


def check_contrastive_saved(
    grad_loss: Tensor, loss: Tensor, lse: Tensor, z: Tensor, inv_norm: Tensor, dim: int, rows: int
) -> None:
    """Raise TypeError or ValueError unless the forward pass may have returned these."""
    check_dense("z", z)
    if z.ndim != 2 or z.shape[0] < 1 or z.shape[1] < 1:
        raise ValueError(
            f"z must be [R + C, D] or [R, D] with R >= 1 and D >= 1, got shape {list(z.shape)}"
        )
    size = z.shape[0]
    if not 1 <= rows <= size:
        raise ValueError(f"rows must be 1 to {size}, the rows of z, got {rows}")
    symbol = "R" if rows == size else "R + C"
    _check_saved_rows(symbol, grad_loss, loss, lse, z, inv_norm, dim)


def _check_saved_rows(
    symbol: str,
    grad_loss: Tensor,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    dim: int,
) -> None:
    if not 1 <= dim <= z.shape[1]:
        raise ValueError(f"dim must be 1 to {z.shape[1]}, the columns of z, got {dim}")
    size = z.shape[0]
    for name, values in (("grad_loss", grad_loss), ("loss", loss), ("lse", lse)):
        check_saved_row(name, values, z, symbol)
    check_dense("inv_norm", inv_norm)
    if inv_norm.ndim != 1 or inv_norm.shape[0] not in (0, size):
        raise ValueError(
            f"inv_norm must be [{symbol}] = [{size}] or [0], got shape {list(inv_norm.shape)}"
        )
    _check_number_of_row("inv_norm", inv_norm, z)
    if inv_norm.dtype != loss.dtype:
        raise TypeError(f"inv_norm must have the dtype of loss, {loss.dtype}, got {inv_norm.dtype}")


def check_sigmoid_saved(grad_loss: Tensor, z: Tensor, inv_norm: Tensor, dim: int) -> None:
    """Raise TypeError or ValueError unless the sigmoid loss's forward pass may have saved these."""
    for name, values in (("grad_loss", grad_loss), ("z", z), ("inv_norm", inv_norm)):
        check_dense(name, values)
        check_floating_dtype(name, values)
    if z.ndim != 2 or z.shape[0] < 2 or z.shape[1] < 1:
        raise ValueError(f"z must be [R + C, D] with R, C and D >= 1, got shape {list(z.shape)}")
    if not 1 <= dim <= z.shape[1]:
        raise ValueError(f"dim must be 1 to {z.shape[1]}, the columns of z, got {dim}")
    if grad_loss.ndim != 1 or not 1 <= grad_loss.shape[0] < z.shape[0]:
        raise ValueError(
            f"grad_loss must be [R] with 1 <= R < {z.shape[0]}, got shape {list(grad_loss.shape)}"
        )
    if inv_norm.ndim != 1 or inv_norm.shape[0] not in (0, z.shape[0]):
        raise ValueError(
            f"inv_norm must be [rows] = [{z.shape[0]}] or [0], got shape {list(inv_norm.shape)}"
        )
    for name, values in (("grad_loss", grad_loss), ("inv_norm", inv_norm)):
        check_same_device(name, values, "z", z)


def check_saved_row(name: str, values: Tensor, z: Tensor, symbol: str = "rows of z") -> None:
    """Raise TypeError or ValueError unless there is one number for each row of z."""
    check_dense(name, values)
    if values.shape != z.shape[:1]:
        raise ValueError(
            f"{name} must be [{symbol}] = [{z.shape[0]}], got shape {list(values.shape)}"
        )
    _check_number_of_row(name, values, z)


def _check_number_of_row(name: str, values: Tensor, z: Tensor) -> None:
    check_floating_dtype(name, values)
    if values.device != z.device:
        raise ValueError(f"{name} must be on the device of z, {z.device}, got {values.device}")
