"""A plain Triton kernel of the same algorithm, without tuning.

Row-wise log-sum-exp over all columns with a running maximum, and a backward pass that recomputes
the tiles; neither stores the matrix. It differs from the CUDA kernels where a plain kernel would:
normalized rows are rounded to the views' dtype, the forward pass visits every pair twice, and the
normalization is left to autograd. bfloat16 and float32, the latter as 3xTF32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    z,  # [M, D]
    lse,  # [M], of exponents of two
    positive,  # [M], in base 2
    rows,
    pairs,
    dim,
    scale,  # log2(e) / T
    BLOCK_ROWS: tl.constexpr,  # noqa: N803
    BLOCK_COLUMNS: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
):
    i = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    d = tl.arange(0, BLOCK_DIM)
    within = d[None, :] < dim
    a = tl.load(z + i[:, None] * dim + d[None, :], mask=(i[:, None] < rows) & within, other=0.0)
    partner = tl.where(i < pairs, i + pairs, i - pairs)
    largest = tl.full([BLOCK_ROWS], -1.0e30, tl.float32)  # finite: -inf minus itself is NaN
    total = tl.zeros([BLOCK_ROWS], tl.float32)
    of_positive = tl.zeros([BLOCK_ROWS], tl.float32)
    for start in range(0, rows, BLOCK_COLUMNS):
        j = start + tl.arange(0, BLOCK_COLUMNS)
        b = tl.load(z + j[:, None] * dim + d[None, :], mask=(j[:, None] < rows) & within, other=0.0)
        x = tl.dot(a, tl.trans(b), input_precision=PRECISION) * scale
        of_positive += tl.sum(tl.where(j[None, :] == partner[:, None], x, 0.0), 1)
        x = tl.where((j[None, :] == i[:, None]) | (j[None, :] >= rows), float("-inf"), x)
        new = tl.maximum(largest, tl.max(x, 1))
        total = total * tl.exp2(largest - new) + tl.sum(tl.exp2(x - new[:, None]), 1)
        largest = new
    tl.store(lse + i, largest + tl.log2(total), mask=i < rows)
    tl.store(positive + i, of_positive, mask=i < rows)


@triton.jit  # type: ignore[untyped-decorator]
def backward_kernel(  # type: ignore[no-untyped-def]
    z,  # [M, D]
    lse,  # [M], of exponents of two
    weight,  # [M] gradient of each loss
    grad,  # [M, D] float32
    rows,
    pairs,
    dim,
    scale,
    inv_t,
    BLOCK_ROWS: tl.constexpr,  # noqa: N803
    BLOCK_COLUMNS: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
):
    i = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    d = tl.arange(0, BLOCK_DIM)
    within = d[None, :] < dim
    inside = (i[:, None] < rows) & within
    a = tl.load(z + i[:, None] * dim + d[None, :], mask=inside, other=0.0)
    lse_i = tl.load(lse + i, mask=i < rows, other=0.0)
    weight_i = tl.load(weight + i, mask=i < rows, other=0.0)
    partner = tl.where(i < pairs, i + pairs, i - pairs)
    sums = tl.zeros([BLOCK_ROWS, BLOCK_DIM], tl.float32)
    for start in range(0, rows, BLOCK_COLUMNS):
        j = start + tl.arange(0, BLOCK_COLUMNS)
        b = tl.load(z + j[:, None] * dim + d[None, :], mask=(j[:, None] < rows) & within, other=0.0)
        lse_j = tl.load(lse + j, mask=j < rows, other=0.0)
        weight_j = tl.load(weight + j, mask=j < rows, other=0.0)
        x = tl.dot(a, tl.trans(b), input_precision=PRECISION) * scale
        w = tl.exp2(x - lse_i[:, None]) * weight_i[:, None]
        w += tl.exp2(x - lse_j[None, :]) * weight_j[None, :]
        pair_weight = weight_i[:, None] + weight_j[None, :]
        w = tl.where(j[None, :] == partner[:, None], w - pair_weight, w)
        w = tl.where(j[None, :] == i[:, None], 0.0, w)
        sums += tl.dot(w.to(b.dtype), b, input_precision=PRECISION)
    tl.store(grad + i[:, None] * dim + d[None, :], sums * inv_t, mask=inside)


@dataclass(frozen=True)
class Blocks:
    """Tile sizes and launch parameters of a kernel."""

    rows: int
    columns: int
    dim: int
    warps: int
    stages: int

    def arguments(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return the arguments of the kernels."""
        return {
            "BLOCK_ROWS": self.rows,
            "BLOCK_COLUMNS": self.columns,
            "BLOCK_DIM": self.dim,
            "PRECISION": "tf32x3" if dtype == torch.float32 else "tf32",
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


def blocks(dim: int, dtype: torch.dtype) -> Blocks:
    """Return the tile for rows of D elements."""
    padded = max(16, 1 << (dim - 1).bit_length())
    if dtype == torch.float32:
        return Blocks(64, 32, padded, 4 if padded <= 64 else 8, 2)
    return Blocks(128, 64, padded, 8, 3 if padded <= 128 else 2)


def row_sums(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return lse and the positives' logits of unit rows [M, D], in base 2, [M] each."""
    rows, dim = z.shape
    lse, positive = (z.new_empty(rows, dtype=torch.float32) for _ in range(2))
    tile = blocks(dim, z.dtype)
    forward_kernel[(triton.cdiv(rows, tile.rows),)](
        z, lse, positive, rows, rows // 2, dim, math.log2(math.e) / temperature,
        **tile.arguments(z.dtype),
    )  # fmt: skip
    return lse, positive


def row_gradients(z: Tensor, lse: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Return the gradient [M, D] of the weighted sum of the losses, in float32."""
    rows, dim = z.shape
    grad = z.new_empty(rows, dim, dtype=torch.float32)
    tile = blocks(dim, z.dtype)
    backward_kernel[(triton.cdiv(rows, tile.rows),)](
        z, lse, weight, grad, rows, rows // 2, dim, math.log2(math.e) / temperature,
        1 / temperature, **tile.arguments(z.dtype),
    )  # fmt: skip
    return grad


class _MeanLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float) -> Tensor:
        lse, positive = row_sums(z, temperature)
        ctx.save_for_backward(z, lse)
        ctx.temperature = temperature
        return (lse - positive).mean() * math.log(2)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None]:
        z, lse = ctx.saved_tensors
        weight = (grad_loss / len(z)).expand(len(z)).contiguous()
        return row_gradients(z, lse, weight, ctx.temperature).to(z.dtype), None


def nt_xent(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
    """Return the mean NT-Xent loss of two views [N, D]."""
    loss: Tensor = _MeanLoss.apply(F.normalize(torch.cat([z0, z1]), dim=1), temperature)
    return loss
