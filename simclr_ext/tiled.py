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
from simclr_ext.tiled_rows import (
    HALF_TYPES,
    Rows,
    join_views,
    stored_rows,
    sum_dtype,
    undo_normalisation,
)

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
        z0: Views, [N, D], floating; half types are computed in float32.
        z1: Views, [N, D], of the dtype and device of ``z0``.
        temperature: T > 0, 0-d float64 on the CPU.
        normalize: Whether to divide each row by max(norm, eps) first.
        eps: At least 1.2e-38.

    Returns:
        loss [2N]; lse [2N] in :func:`sum_dtype`; the rows z [2N, D] and inv_norm [2N] or [0], as
        :func:`join_views` returns them.
    """
    check_views(z0, z1)
    check_operator_temperature(temperature)
    check_eps(eps)
    value = check_temperature_value(temperature)
    with torch.no_grad(), _no_autocast(z0.device):
        z, inv_norm = join_views(z0, z1, normalize, eps)
        similarities = _Similarities(stored_rows(z, inv_norm), value, normalize)
        sums = _RowSums(similarities)
        positive = similarities.new_empty(similarities.num_pairs)  # x_{i,i+N}
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
    if z.dtype not in (loss.dtype, *HALF_TYPES):
        raise TypeError(f"z must have the dtype of loss, {loss.dtype}, got {z.dtype}")
    check_operator_temperature(temperature)
    value = check_temperature_value(temperature)
    needs_z0, needs_z1, needs_temperature = needs_grad
    with torch.no_grad(), _no_autocast(z.device):
        rows = stored_rows(z, inv_norm)
        similarities = _Similarities(rows, value, inv_norm.numel() > 0)
        n = similarities.num_pairs
        # The rows whose gradient is wanted.
        wanted = slice(
            0 if needs_z0 or needs_temperature else n, 2 * n if needs_z1 or needs_temperature else n
        )
        weights = _PairWeights(similarities, grad_loss, loss, lse)
        grad_z = _grad_of_rows(similarities, weights, wanted)
        radial = undo_normalisation(grad_z, rows.part(wanted), inv_norm[wanted])
        grad_z = grad_z.to(z.dtype)
        if not needs_temperature:
            return grad_z, lse.new_empty(0)
        return grad_z, radial.sum(dtype=lse.dtype) / (-2 * value)


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

    def __init__(self, rows: Rows, temperature: float, normalized: bool) -> None:
        self.rows = rows
        self.num_pairs = len(rows) // 2
        self.inv_t = 1 / temperature
        # As the tiles' dtype holds it, so that what is computed in double agrees with them.
        scale = float(torch.tensor(_LOG2_E / temperature, dtype=rows.dtype, device="cpu"))
        longest = 1.0 if normalized else rows.longest()
        self.unshifted = 2 * scale * (longest * longest) <= _SAFE_SPAN[rows.dtype]  # False for NaN
        # The logit of x is x exponent_scale, in powers of two.
        self._product_scale, self.exponent_scale = (scale, 1.0) if self.unshifted else (1.0, scale)
        self._side = tile_side(self.num_pairs, rows.stored.device)
        self._tile = self.new_empty(self._side * self._side)
        self._scratch: Tensor | None = None

    def new_empty(self, *size: int) -> Tensor:
        """Return a tensor of the dtype of the tiles, on their device."""
        return self.rows.stored.new_empty(size, dtype=self.rows.dtype)

    def tiles(self) -> Iterator[_Tile]:
        """Yield the tiles of the upper triangle."""
        blocks = _blocks(self.num_pairs, self._side)
        for a, rows in enumerate(blocks):
            for b, columns in enumerate(blocks[a:], start=a):
                positives = 2 * (b - a) == len(blocks)
                yield _Tile(rows, columns, diagonal=a == b, has_positives=positives)

    def compute(self, tile: _Tile) -> Tensor:
        """Return a tile, valid until the next call; -inf where rows meet themselves."""
        shape = [part.stop - part.start for part in (tile.rows, tile.columns)]
        x = self._tile[: math.prod(shape)].view(shape)
        self.rows.multiply(tile.rows, tile.columns, self._product_scale, out=x)
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
        rows = similarities.rows
        self._similarities = similarities
        self._shift = similarities.new_empty(len(rows))
        # Below every similarity, yet finite: for a row that is all masked, -inf - (-inf) is NaN.
        self._shift.fill_(0.0 if similarities.unshifted else torch.finfo(rows.dtype).min)
        self._sum = torch.zeros_like(self._shift, dtype=sum_dtype(self._shift.device))

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
    """Turns tiles of S into tiles of W, the weights of dL/dz_i = sum_j W_ij z_j / gain."""

    def __init__(
        self, similarities: _Similarities, grad_loss: Tensor, loss: Tensor, lse: Tensor
    ) -> None:
        self._similarities = similarities
        scale, dtype = similarities.exponent_scale, similarities.rows.dtype
        weight = grad_loss.to(lse.dtype) * similarities.inv_t  # g_i / T
        self.gain = similarities.rows.gain(weight)
        weight = weight * self.gain
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


def _grad_of_rows(similarities: _Similarities, weights: _PairWeights, wanted: slice) -> Tensor:
    """Return dL/dZ of the rows ``wanted``."""
    rows = similarities.rows
    grad_z = similarities.new_empty(wanted.stop - wanted.start, rows.stored.shape[1]).zero_()
    for tile in similarities.tiles():
        targets = [tile.rows] if tile.diagonal else [tile.rows, tile.columns]
        targets = [part for part in targets if wanted.start <= part.start < wanted.stop]
        if not targets:
            continue
        w = weights.apply(similarities.compute(tile), tile)
        for part in targets:
            of_rows = part == tile.rows
            here = slice(part.start - wanted.start, part.stop - wanted.start)
            other = tile.columns if of_rows else tile.rows
            rows.add_weighted(w if of_rows else w.T, other, grad_z[here])
    return grad_z if isinstance(weights.gain, float) else grad_z.div_(weights.gain)


def _no_autocast(device: torch.device) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
