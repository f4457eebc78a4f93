"""The operators of the sigmoid loss: every pair on its own, u_ij = scale s_ij + bias."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext._checks.pairs import check_operands
from simclr_ext._checks.saved import check_sigmoid_saved
from simclr_ext._checks.scalars import check_eps, check_operator_scalar, check_scale
from simclr_ext._checks.tensors import check_data, check_rows
from simclr_ext.backends.reference import compute_dtype
from simclr_ext.backends.tiled.pairing import Pairing
from simclr_ext.backends.tiled.problem import Problem, Tile
from simclr_ext.backends.tiled.rows import (
    Rows,
    join_rows,
    no_autocast,
    stored_rows,
    sum_dtype,
    undo_normalization,
)
from simclr_ext.backends.tiled.schedule import schedule

_LINEAR = 40.0  # from here on log(1 + e^u) is u in float64, too


def sigmoid_forward(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    normalize: bool,
    eps: float,
    shifts: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute what ``sigmoid_forward`` of csrc/simclr_ext.h does.

    Args:
        x: Rows, [R, D], floating; half types are computed in float32.
        y: Columns, [C, D], of the dtype and device of ``x``.
        scale: > 0, 0-d float64 on the CPU.
        bias: 0-d float64 on the CPU.
        normalize: Whether to divide each row and column by max(norm, eps) first.
        eps: At least 1.2e-38.
        shifts: The positives of row i are the columns i + shift that exist; at most two.

    Returns:
        loss [R] and its derivative by the bias, in :func:`sum_dtype`; the rows z of [x; y] and
        inv_norm, as :func:`join_rows` returns them.
    """
    check_rows(x, y)
    check_eps(eps)
    check_operands(len(x), len(y), shifts, None, None, "all", (), x.device)
    scale_value, bias_value = scalar_values(scale, bias)
    check_data(x=x, y=y)
    with torch.no_grad(), no_autocast(x.device):
        z, inv_norm = join_rows([x, y], normalize, eps)
        tiles = _Tiles(stored_rows(z, inv_norm), len(x), shifts, scale_value, bias_value)
        loss = torch.zeros(len(x), dtype=sum_dtype(x.device), device=x.device)
        bias_grad = torch.zeros_like(loss)
        for tile in tiles.schedule:
            u = tiles.compute(tile)
            tiles.turn_positives(u, tile)
            loss[tile.rows] += F.softplus(u, threshold=_LINEAR).sum(1, dtype=loss.dtype)
            sigmoid = u.sigmoid_()
            tiles.turn_positives(sigmoid, tile)
            bias_grad[tile.rows] += sigmoid.sum(1, dtype=loss.dtype)
    return loss.to(tiles.rows.dtype), bias_grad, z, inv_norm


def sigmoid_backward(
    grad_loss: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    dim: int,
    scale: Tensor,
    bias: Tensor,
    eps: float,
    shifts: Sequence[int],
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Compute what ``sigmoid_backward`` of csrc/simclr_ext.h does.

    Args:
        grad_loss: [R].
        z: As the forward pass returned it, like inv_norm.
        inv_norm: [R + C] or [0].
        dim: D.
        scale: As in the forward pass, like the next three.
        bias: 0-d.
        eps: At least 1.2e-38.
        shifts: At most two.
        needs_grad: Whether x, y and the scale need a gradient.

    Returns:
        The gradient of the raw rows of x and y, or of the one that needs it; and the gradient of
        the scale, 0-d in :func:`sum_dtype`, or [0] if it needs none.
    """
    check_sigmoid_saved(grad_loss, z, inv_norm, dim)
    if z.shape[1] != dim:
        raise ValueError(f"z must be [rows, D] with D = dim = {dim}, got shape {list(z.shape)}")
    if inv_norm.dtype != compute_dtype(z.dtype):
        raise TypeError(
            f"inv_norm must be {compute_dtype(z.dtype)} for z of {z.dtype}, got {inv_norm.dtype}"
        )
    check_eps(eps)
    rows = len(grad_loss)
    check_operands(rows, len(z) - rows, shifts, None, None, "all", (), z.device)
    scale_value, bias_value = scalar_values(scale, bias)
    check_data(grad_loss=grad_loss, z=z, inv_norm=inv_norm, scale=scale, bias=bias)
    wanted = Problem.of(len(z), rows).wanted(needs_grad)
    with torch.no_grad(), no_autocast(z.device):
        stored = stored_rows(z, inv_norm)
        tiles = _Tiles(stored, rows, shifts, scale_value, bias_value)
        weight = grad_loss.to(sum_dtype(z.device)) * scale_value
        gain = stored.gain(weight)
        weight = (weight * gain).to(stored.dtype)
        grad_z = tiles.new_empty(wanted.stop - wanted.start, dim).zero_()
        for tile in tiles.schedule:
            tiles.add_gradients(grad_z, weight, tile, wanted)
        if not isinstance(gain, float):
            grad_z.div_(gain)
        radial = undo_normalization(grad_z, stored.part(wanted), inv_norm[wanted], eps)
        grad_z = grad_z.to(z.dtype)
        if not needs_grad[2]:
            return grad_z, radial.new_empty(0, dtype=sum_dtype(z.device))
        return grad_z, radial[:rows].sum(dtype=sum_dtype(z.device)) / scale_value


def scalar_values(scale: Tensor, bias: Tensor) -> tuple[float, float]:
    """Return both; raise TypeError or ValueError unless they are as the operators take them."""
    for name, scalar in (("scale", scale), ("bias", bias)):
        check_operator_scalar(name, scalar)
    check_data(scale=scale, bias=bias)
    scale_value, bias_value = scale.item(), bias.item()
    check_scale("scale", scale_value)
    if not math.isfinite(bias_value):
        raise ValueError(f"bias must be finite, got {bias_value}")
    return scale_value, bias_value


class _Tiles:
    """The matrix of u_ij of a problem; one tile of it exists at a time."""

    def __init__(
        self, rows: Rows, size: int, shifts: Sequence[int], scale: float, bias: float
    ) -> None:
        self.rows = rows
        problem = Problem.of(len(rows), size)
        self._pairing = Pairing.of(problem, shifts)
        self._scale, self._bias = scale, bias
        self.schedule = schedule(problem, rows.stored.device)
        self._tile = self.new_empty(max(math.prod(tile.shape) for tile in self.schedule))

    def new_empty(self, *size: int) -> Tensor:
        """Return a tensor of the dtype of the tiles, on their device."""
        return self.rows.stored.new_empty(size, dtype=self.rows.dtype)

    def compute(self, tile: Tile) -> Tensor:
        """Return a tile, valid until the next call."""
        u = self._tile[: math.prod(tile.shape)].view(tile.shape)
        self.rows.multiply(tile.rows, tile.columns, self._scale, out=u)
        return u.add_(self._bias)

    def turn_positives(self, values: Tensor, tile: Tile) -> None:
        """Change the sign of a tile's values at its positives."""
        for diagonal in self._pairing.diagonals(tile):
            values.diagonal(diagonal.offset).neg_()

    def add_gradients(self, grad_z: Tensor, weight: Tensor, tile: Tile, wanted: slice) -> None:
        """Add W Y and W^T X of a tile to those of their rows that are wanted."""
        w = self.compute(tile)
        self.turn_positives(w, tile)
        w.sigmoid_()
        self.turn_positives(w, tile)
        w.mul_(weight[tile.rows, None])
        for part, others, turned in ((tile.rows, tile.columns, w), (tile.columns, tile.rows, w.T)):
            if wanted.start <= part.start < wanted.stop:
                place = slice(part.start - wanted.start, part.stop - wanted.start)
                self.rows.add_weighted(turned, others, grad_z[place])
