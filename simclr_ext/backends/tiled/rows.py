"""The rows of z as the tiled backend stores and multiplies them.

float32 and float64 rows are stored normalized. Half types on CUDA stay half types,
so that the products run on tensor cores, with float32 results: a row is stored scaled by a power of
two, which is exact, and the remaining factor of its normalization multiplies the products.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from simclr_ext._torch_compat import HAS_PRODUCTS_OF_HALVES
from simclr_ext.backends.reference import compute_dtype

HALF_TYPES = (torch.bfloat16, torch.float16)
# Weights of half types are scaled so that the largest are about 2^8: for every batch size they are
# then far above float16's smallest number, 2^-24.
_GAIN_EXPONENT = 8
_ROWS_AT_A_TIME = 4096  # limits the copy in a wider dtype that the norms need


@dataclass(frozen=True)
class Rows:
    """The rows z_i = factor_i stored_i.

    Args:
        stored: [rows, D], in the compute dtype or in the half type of the inputs.
        factor: [rows] float32 for a half type, else None: all are 1.
    """

    stored: Tensor
    factor: Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of products and gradients."""
        return compute_dtype(self.stored.dtype)

    def __len__(self) -> int:
        return self.stored.shape[0]

    def part(self, rows: slice) -> Tensor:
        """Return the rows z_i of a part, in the compute dtype."""
        stored = self.stored[rows]
        return stored if self.factor is None else stored * self.factor[rows, None]

    def largest_product(self, rows: slice, columns: slice) -> float:
        """Return a bound of |z_i . z_j| for rows that are not normalized. Synchronizes."""
        norms = torch.linalg.vector_norm(self.stored, dim=1, dtype=self.dtype)  # factors are 1
        return float(norms[rows].max() * norms[columns].max())

    def multiply(self, rows: slice, columns: slice, scale: float, out: Tensor) -> None:
        """Write the tile scale Z_rows Z_columns^T to ``out``."""
        left, right = self.stored[rows], self.stored[columns].T
        if self.factor is None:
            torch.addmm(out, left, right, beta=0, alpha=scale, out=out)
        else:
            torch.mm(left, right, out_dtype=out.dtype, out=out)
            out.mul_(self.factor[rows, None] * scale).mul_(self.factor[columns])

    def add_weighted(self, w: Tensor, part: slice, grad: Tensor) -> None:
        """Add W Z_part to ``grad``, for weights that :meth:`gain` has scaled."""
        if self.factor is None:
            grad.addmm_(w, self.stored[part])
        else:
            weights = (w * self.factor[part]).to(self.stored.dtype)
            torch.addmm(grad, weights, self.stored[part], out_dtype=grad.dtype, out=grad)

    def gain(self, weight: Tensor) -> Tensor | float:
        """Return the power of two by which weights as large as ``weight`` are scaled."""
        if self.factor is None:
            return 1.0
        _, exponent = torch.frexp(weight.abs().max())
        return torch.ldexp(torch.ones_like(weight[0]), _GAIN_EXPONENT - exponent)


def multiplies_halves(z: Tensor) -> bool:
    """Return whether half rows are multiplied in their own dtype: on CUDA, if torch can."""
    return HAS_PRODUCTS_OF_HALVES and z.dtype in HALF_TYPES and z.device.type == "cuda"


def stored_rows(z: Tensor, inv_norm: Tensor) -> Rows:
    """Return the result of :func:`join_rows` as :class:`Rows`.

    Args:
        z: [rows, D].
        inv_norm: [rows] or [0].
    """
    if z.dtype not in HALF_TYPES:
        return Rows(z, None)
    if inv_norm.numel() == 0:
        return Rows(z, z.new_ones(len(z), dtype=torch.float32))
    mantissa, _ = torch.frexp(inv_norm)
    return Rows(z, 2 * mantissa)


def join_rows(parts: Sequence[Tensor], normalize: bool, eps: float) -> tuple[Tensor, Tensor]:
    """Return the rows of all parts, normalized on request, and inv_norm [rows] or [0].

    inv_norm is 1 / max(norm, eps). Half rows are not multiplied by it, but by the largest power of
    two up to it.
    """
    first = parts[0]
    size = sum(len(part) for part in parts)
    dtype = first.dtype if multiplies_halves(first) else compute_dtype(first.dtype)
    z = first.new_empty(size, first.shape[1], dtype=dtype)
    begin = 0
    for part in parts:
        z[begin : begin + len(part)].copy_(part)
        begin += len(part)
    inv_norm = z.new_empty(size if normalize else 0, dtype=compute_dtype(first.dtype))
    if not normalize:
        return z, inv_norm
    for begin in range(0, size, _ROWS_AT_A_TIME):
        rows, inv = (x[begin : begin + _ROWS_AT_A_TIME] for x in (z, inv_norm))
        # Squares may overflow or underflow in the rows' own dtype.
        norm = torch.linalg.vector_norm(rows, dim=1, dtype=sum_dtype(z.device))
        inv.copy_(torch.where(norm < eps, 1 / eps, 1 / norm))
        scale = inv
        if dtype in HALF_TYPES:
            _, exponent = torch.frexp(inv)
            scale = torch.ldexp(torch.ones_like(inv), exponent - 1)
        rows.mul_(scale[:, None])
    return z, inv_norm


def undo_normalization(grad_z: Tensor, z: Tensor, inv_norm: Tensor, eps: float) -> Tensor:
    """Turn dL/dz_i into the gradient of the raw rows, in place; return z_i . dL/dz_i.

    Args:
        grad_z: [rows, D].
        z: [rows, D], unit rows if normalized.
        inv_norm: [rows], or [0] if not normalized.
        eps: As in :func:`join_rows`.
    """
    radial = (z * grad_z).sum(1)
    if inv_norm.numel() > 0:
        # A row divided by eps instead of its norm keeps the radial part of its gradient.
        along = torch.where(inv_norm == 1 / eps, 0, radial)
        grad_z.addcmul_(z, along[:, None], value=-1).mul_(inv_norm[:, None])
    return radial


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast: products are in the dtype of their operands."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of sums over all rows: float64, or float32 on devices without float64."""
    return torch.float32 if device.type == "mps" else torch.float64
