"""NT-Xent tile by tile in PyTorch operations: any device, any floating dtype, no compiler.

The algorithm of csrc/cpu over larger tiles; docs/math.md derives it. Only tiles on and above the
diagonal of S = Z Z^T are computed, one at a time:

    forward   lse_i = log sum_{j != i} exp(s_ij / T)     row sums to block a, column sums to block b
    backward  dL/dZ_a += W Z_b,  dL/dZ_b += W^T Z_a      W_ij = (g_i P_ij + g_j P_ji - ...) / T

Nothing waits for the device inside the loops over tiles. The order of summation is fixed.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from simclr_ext._checks import (
    check_eps,
    check_operator_temperature,
    check_saved,
    check_temperature_value,
    check_views,
)
from simclr_ext.reference import compute_dtype

_LOG2_E = math.log2(math.e)
_LN_2 = math.log(2)
# Up to this span of exponents, 2^x_ij and its sums neither overflow nor underflow as they are.
_SAFE_SPAN = {torch.float32: 115.0, torch.float64: 1000.0}
# Rows of a tile: as many as keep a processor's caches warm, or fill a GPU.
_CPU_SIDE = 1024
_DEVICE_SIDE = 4096


def forward(
    z0: Tensor, z1: Tensor, temperature: Tensor, normalize: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute what ``nt_xent_forward`` of csrc/simclr_ext.h does.

    Args:
        z0: Views, [N, D], floating; computed in :func:`compute_dtype`.
        z1: Views, [N, D], of the dtype and device of ``z0``.
        temperature: T > 0, 0-d float64 on the CPU.
        normalize: Whether to divide each row by max(norm, eps) first.
        eps: At least 1.2e-38.

    Returns:
        loss [2N]; lse [2N] in :func:`sum_dtype`; the rows z [2N, D]; and inv_norm [2N], negative
        where eps was larger than the norm, or [0] if not normalised.
    """
    check_views(z0, z1)
    check_operator_temperature(temperature)
    check_eps(eps)
    value = check_temperature_value(temperature)
    with torch.no_grad(), _no_autocast(z0.device):
        z, inv_norm = _join_views(z0, z1, normalize, eps)
        similarities = _Similarities(z, value, normalize)
        sums = _RowSums(similarities)
        positive = z.new_empty(similarities.num_pairs)  # x_{i,i+N}
        for tile in similarities.tiles():
            x = similarities.compute(tile)
            if tile.has_positives:
                positive[tile.rows] = x.diagonal()
            sums.add(x, tile)
        loss, lse = sums.finish(positive)
    return loss, lse, z, inv_norm


def backward(
    grad_loss: Tensor,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    dim: int,
    temperature: Tensor,
    needs_grad: list[bool],
) -> tuple[Tensor, Tensor]:
    """Compute what ``nt_xent_backward`` of csrc/simclr_ext.h does.

    Args:
        grad_loss: Gradient of the objective with respect to the losses, [2N].
        loss: As :func:`forward` returned it, like the next three.
        lse: [2N].
        z: [2N, D].
        inv_norm: [2N] or [0].
        dim: D.
        temperature: T > 0, 0-d float64 on the CPU.
        needs_grad: Whether z0, z1 and the temperature need a gradient.

    Returns:
        The gradient of the raw rows, [2N, D], or [N, D] of the one view that needs one; and the
        temperature's, 0-d in the dtype and on the device of ``lse``, or [0] where it needs none.
    """
    check_saved(grad_loss, loss, lse, z, inv_norm, dim)
    if z.shape[1] != dim:
        raise ValueError(f"z must be [2N, D] with D = dim = {dim}, got shape {list(z.shape)}")
    if z.dtype != loss.dtype:
        raise TypeError(f"z must have the dtype of loss, {loss.dtype}, got {z.dtype}")
    check_operator_temperature(temperature)
    value = check_temperature_value(temperature)
    needs_z0, needs_z1, needs_temperature = needs_grad
    with torch.no_grad(), _no_autocast(z.device):
        similarities = _Similarities(z, value, inv_norm.numel() > 0)
        n = similarities.num_pairs
        # The rows whose gradient is wanted.
        wanted = range(
            0 if needs_z0 or needs_temperature else n, 2 * n if needs_z1 or needs_temperature else n
        )
        grad_z = _grad_of_rows(
            similarities, _PairWeights(similarities, grad_loss, loss, lse), wanted
        )
        z, inv_norm = z[wanted.start : wanted.stop], inv_norm[wanted.start : wanted.stop]
        radial = (z * grad_z).sum(1)  # z_i . dL/dz_i
        if inv_norm.numel() > 0:
            # A row divided by eps, and not by its norm, is free to move along itself.
            tangential = torch.where(inv_norm < 0, 0, radial)
            grad_z.addcmul_(z, tangential[:, None], value=-1).mul_(inv_norm.abs()[:, None])
        if not needs_temperature:
            return grad_z, lse.new_empty(0)
        return grad_z, radial.sum(dtype=lse.dtype) / (-2 * value)


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of sums over all rows: float64, or float32 where the device has no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def tile_side(num_pairs: int, device: torch.device) -> int:
    """Return the most rows that a tile has for N pairs of views."""
    return min(num_pairs, _CPU_SIDE if device.type == "cpu" else _DEVICE_SIDE)


@dataclass(frozen=True)
class _Tile:
    rows: slice
    columns: slice  # the rows themselves, or later ones
    diagonal: bool
    has_positives: bool  # on its diagonal: row i of a view meets row i of the other


def _blocks(num_pairs: int, side: int) -> list[slice]:
    """Split the 2N rows into blocks of nearly equal size, as many in each view."""
    count = -(-num_pairs // side)
    edges = [b * num_pairs // count for b in range(count + 1)]
    return [
        slice(view + begin, view + end)
        for view in (0, num_pairs)
        for begin, end in itertools.pairwise(edges)
    ]


class _Similarities:
    """The matrix S = Z Z^T, of which one tile x exists at a time.

    Where 2^x then neither overflows nor underflows, a tile is scaled to logits in powers of two,
    x = s log2(e) / T. Else it is s itself, from which a shift is to be subtracted before it is
    scaled: next to the largest term the difference is exact, that of scaled values is not.
    """

    def __init__(self, z: Tensor, temperature: float, normalized: bool) -> None:
        self.z = z  # [2N, D]
        self.num_pairs = z.shape[0] // 2
        self.inv_t = 1 / temperature
        # As z's dtype holds it, so that what is computed in double agrees with the tiles.
        scale = float(torch.tensor(_LOG2_E / temperature, dtype=z.dtype, device="cpu"))
        longest = 1.0 if normalized else float(torch.linalg.vector_norm(z, dim=1).max())
        self.unshifted = 2 * scale * (longest * longest) <= _SAFE_SPAN[z.dtype]  # False for NaN
        # The logit of x is x exponent_scale, in powers of two.
        self._product_scale, self.exponent_scale = (scale, 1.0) if self.unshifted else (1.0, scale)
        self._side = tile_side(self.num_pairs, z.device)
        self._tile = z.new_empty(self._side * self._side)
        self._scratch: Tensor | None = None

    def tiles(self) -> Iterator[_Tile]:
        """Yield the tiles of the upper triangle."""
        blocks = _blocks(self.num_pairs, self._side)
        for a, rows in enumerate(blocks):
            for b, columns in enumerate(blocks[a:], start=a):
                positives = 2 * (b - a) == len(blocks)
                yield _Tile(rows, columns, diagonal=a == b, has_positives=positives)

    def compute(self, tile: _Tile) -> Tensor:
        """Return a tile, valid until the next call; -inf where rows meet themselves."""
        rows, columns = self.z[tile.rows], self.z[tile.columns]
        x = self._tile[: len(rows) * len(columns)].view(len(rows), len(columns))
        torch.addmm(x, rows, columns.T, beta=0, alpha=self._product_scale, out=x)
        if tile.diagonal:
            x.fill_diagonal_(-math.inf)
        return x

    def scratch(self, x: Tensor) -> Tensor:
        """Return a buffer of the shape of the tile ``x``."""
        if self._scratch is None:
            self._scratch = torch.empty_like(self._tile)
        return self._scratch[: x.numel()].view_as(x)


class _RowSums:
    """Running sums sum_j 2^(exponent_scale (x_ij - shift_i)) of all rows.

    Where a shift is needed, a row's is its largest similarity so far, and the sum follows its rise.
    """

    def __init__(self, similarities: _Similarities) -> None:
        z = similarities.z
        self._similarities = similarities
        self._sum = z.new_zeros(len(z), dtype=sum_dtype(z.device))
        # Below every similarity, yet finite: for a row that is all masked, -inf - (-inf) is NaN.
        lowest = 0.0 if similarities.unshifted else torch.finfo(z.dtype).min
        self._shift = z.new_full((len(z),), lowest)

    def add(self, x: Tensor, tile: _Tile) -> None:
        """Add a tile to its rows and to its columns. Overwrites it."""
        unshifted = self._similarities.unshifted
        if unshifted:
            x.exp2_()
        parts = [(tile.rows, 1)] if tile.diagonal else [(tile.rows, 1), (tile.columns, 0)]
        for part, dim in parts:
            terms = x if unshifted else self._shifted_terms(x, part, dim)
            self._sum[part] += terms.sum(dim)

    def _shifted_terms(self, x: Tensor, part: slice, dim: int) -> Tensor:
        scale = self._similarities.exponent_scale
        old = self._shift[part]
        new = torch.maximum(old, x.amax(dim))
        self._sum[part] *= (old.to(self._sum.dtype) - new).mul_(scale).exp2_()
        self._shift[part] = new
        scratch = self._similarities.scratch(x)
        return torch.sub(x, new.unsqueeze(dim), out=scratch).mul_(scale).exp2_()

    def finish(self, positive: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and lse [2N], given the elements of the positives [N]."""
        scale = self._similarities.exponent_scale
        shift = self._shift.to(self._sum.dtype)
        # Relative to the shift, as the sum is: where the positive dominates it, they cancel.
        exponent = (positive.repeat(2) - shift) * scale
        # The positive of a single pair is its whole sum, and the logarithm of a power is rounded.
        log_sum = exponent if self._similarities.num_pairs == 1 else self._sum.log2()
        lse = (shift * scale + log_sum) * _LN_2
        loss = (log_sum - exponent) * _LN_2
        # The positive is one of the sum's terms and cannot exceed it: what is negative is rounding.
        return loss.clamp_min_(0).to(positive.dtype), lse


class _PairWeights:
    """Turns tiles of S into tiles of W, the weights of dL/dz_i = sum_j W_ij z_j."""

    def __init__(
        self, similarities: _Similarities, grad_loss: Tensor, loss: Tensor, lse: Tensor
    ) -> None:
        self._similarities = similarities
        scale, dtype = similarities.exponent_scale, similarities.z.dtype
        weight = grad_loss.to(lse.dtype) * similarities.inv_t  # g_i / T
        # P_ip - 1 = expm1(-loss_i): exact where P_ip is so near 1 that a difference would be noise.
        positive = weight * torch.expm1(-loss.to(lse.dtype))
        self._positive = positive.view(2, -1).sum(0).to(dtype)  # W_{i,i+N}, [N]
        lse2 = lse * _LOG2_E
        self._shift = torch.zeros_like(loss) if similarities.unshifted else (lse2 / scale).to(dtype)
        # What the shift lacks of lse_i goes here, in double: P_ij keeps its last bits.
        self._weight = (weight * (self._shift.to(lse.dtype) * scale - lse2).exp2_()).to(dtype)

    def apply(self, x: Tensor, tile: _Tile) -> Tensor:
        """Return the tile of W in the place of ``x``."""
        row_weight, column_weight = self._weight[tile.rows, None], self._weight[tile.columns]
        scratch = self._similarities.scratch(x)
        if self._similarities.unshifted:
            torch.add(row_weight, column_weight, out=scratch)
            x.exp2_().mul_(scratch)
        else:
            scale = self._similarities.exponent_scale
            torch.sub(x, self._shift[tile.rows, None], out=scratch)
            scratch.mul_(scale).exp2_().mul_(row_weight)
            x.sub_(self._shift[tile.columns]).mul_(scale).exp2_().mul_(column_weight).add_(scratch)
        if tile.has_positives:
            x.diagonal().copy_(self._positive[tile.rows])
        return x


def _grad_of_rows(similarities: _Similarities, weights: _PairWeights, wanted: range) -> Tensor:
    """Return dL/dZ of the rows ``wanted``."""
    z = similarities.z
    grad_z = z.new_zeros(len(wanted), z.shape[1])
    for tile in similarities.tiles():
        targets = [tile.rows] if tile.diagonal else [tile.rows, tile.columns]
        targets = [part for part in targets if part.start in wanted]
        if not targets:
            continue
        w = weights.apply(similarities.compute(tile), tile)
        for part in targets:
            of_rows = part == tile.rows
            here = slice(part.start - wanted.start, part.stop - wanted.start)
            other = tile.columns if of_rows else tile.rows
            grad_z[here].addmm_(w if of_rows else w.T, z[other])
    return grad_z


def _join_views(z0: Tensor, z1: Tensor, normalize: bool, eps: float) -> tuple[Tensor, Tensor]:
    """Return both views as rows [2N, D], normalised if asked for, and inv_norm [2N] or [0]."""
    n, dim = z0.shape
    z = z0.new_empty(2 * n, dim, dtype=compute_dtype(z0.dtype))
    z[:n].copy_(z0)
    z[n:].copy_(z1)
    if not normalize:
        return z, z.new_empty(0)
    inv_norm = z.new_empty(2 * n)
    dtype = sum_dtype(z.device)  # squares may leave the range of z's own
    for rows in _blocks(n, tile_side(n, z.device)):
        norm = torch.linalg.vector_norm(z[rows], dim=1, dtype=dtype)
        inv_norm[rows] = torch.where(norm < eps, -1 / eps, 1 / norm)
    z.mul_(inv_norm.abs()[:, None])
    return z, inv_norm


def _no_autocast(device: torch.device) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
