"""The backward pass: tiles of S become tiles of W, and tiles of W the gradient of the rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simclr_ext.backends.tiled.pairing import Diagonal
from simclr_ext.backends.tiled.problem import Tile
from simclr_ext.backends.tiled.tiles import LOG2_E, Tiles


class PairWeights:
    """Turns tiles of S into tiles of W, the weights of dL/dx_i = sum_j W_ij y_j / gain.

        W_ij = gain / T ((g_i + h_i) P_ij - [j positive] g_i / n_i, plus the same of j and i)

    P_ij is 0 for pairs that are not terms of the log-sum-exp.
    Each of the two terms, one of the row and one of the column, is
    weight 2^(exponent_scale (x_ij - shift)), and at positives
    weight_at_positive 2^(...) + positive_weight.

    Args:
        tiles: The tiles of S.
        grad_loss: g, one for each row of z, as are the losses.
        grad_lse: h, or None for zeros.
        loss: As the forward pass returned it.
        lse: As the forward pass returned it.
    """

    def __init__(
        self,
        tiles: Tiles,
        grad_loss: Tensor,
        grad_lse: Tensor | None,
        loss: Tensor,
        lse: Tensor,
    ) -> None:
        self._tiles = tiles
        scale, dtype = tiles.exponent_scale, tiles.rows.dtype
        positives = tiles.pairing.count_positives(tiles.problem, loss.device)
        # A row without a positive has no loss.
        weight = torch.where(positives > 0, grad_loss.to(lse.dtype) * tiles.inv_t, 0)
        lse_weight = torch.zeros_like(weight) if grad_lse is None else grad_lse * tiles.inv_t
        self.gain = tiles.rows.gain(weight.abs() + lse_weight.abs())
        weight, lse_weight = weight * self.gain, lse_weight * self.gain
        # P_ip - 1 = expm1(-loss_i): exact where P_ip is so near 1 that a difference would be noise.
        summed = tiles.pairing.sums_positives
        single = (positives == 1) & summed
        wide_loss = torch.where(single, loss, 0).to(lse.dtype)
        self._positive_weight = torch.where(
            single,
            weight * torch.expm1(-wide_loss) + lse_weight * torch.exp(-wide_loss),
            -weight / positives.clamp(min=1),
        )
        lse2 = lse * LOG2_E
        self._shift = torch.zeros_like(loss)
        if not tiles.unshifted:
            # Finite even for a row without columns: -inf - (-inf) is NaN.
            self._shift = (lse2 / scale).to(dtype).clamp_min_(torch.finfo(dtype).min)
        # The rounding error of the shift is compensated here, in double: P_ij keeps its last bits.
        weight = (weight + lse_weight) * (self._shift.to(lse.dtype) * scale - lse2).exp2_()
        weight = torch.where(lse == -math.inf, 0, weight)  # a row without terms
        self._weight = weight.to(dtype)
        self._weight_at_positive = torch.where(single | (not summed), 0, weight)

    def apply(self, x: Tensor, tile: Tile) -> Tensor:
        """Return the tile of W, computed in place of ``x``."""
        diagonals = list(self._tiles.pairing.diagonals(tile))
        on_diagonals = [self._at(x.diagonal(d.offset), d) for d in diagonals]
        self._tiles.pairing.leave_out(x, tile)
        matches = self._tiles.pairing.matches(tile)
        row_weight, column_weight = self._factors(tile, matches)
        scratch = self._tiles.scratch(x)
        if self._tiles.unshifted:
            torch.add(row_weight, column_weight, out=scratch)
            x.exp2_().mul_(scratch)
        else:
            scale = self._tiles.exponent_scale
            torch.sub(x, self._shift[tile.rows, None], out=scratch)
            scratch.mul_(scale).exp2_().mul_(row_weight)
            x.sub_(self._shift[tile.columns]).mul_(scale).exp2_().mul_(column_weight).add_(scratch)
        for diagonal, values in zip(diagonals, on_diagonals, strict=True):
            x.diagonal(diagonal.offset).copy_(values)
        if matches is not None:
            row, column = (self._positive_weight[part].to(x.dtype) for part in _sides(tile))
            torch.add(row[:, None], column, out=scratch)
            x.add_(scratch.masked_fill_(matches.logical_not_(), 0))
        return x

    def _factors(self, tile: Tile, matches: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the weights of a tile's rows and columns, broadcastable to the tile."""
        row, column = (self._weight[part] for part in _sides(tile))
        if matches is None:
            return row[:, None], column
        kept_row, kept_column = (
            self._weight_at_positive[part].to(row.dtype) for part in _sides(tile)
        )
        return (
            torch.where(matches, kept_row[:, None], row[:, None]),
            torch.where(matches, kept_column, column),
        )

    def _at(self, x: Tensor, diagonal: Diagonal) -> Tensor:
        """Return the weights of the positives on a diagonal, whose similarities are ``x``."""
        rows, columns = diagonal.rows, diagonal.columns
        total = self._positive_weight[rows] + self._positive_weight[columns]
        if not self._tiles.pairing.sums_positives:  # 2^x may be infinite: there is no bound
            return total
        x = x.to(self._positive_weight.dtype)
        for part in (rows, columns):
            power = ((x - self._shift[part]) * self._tiles.exponent_scale).exp2_()
            total = total + self._weight_at_positive[part] * power
        return total


def grad_of_rows(weights: PairWeights, tiles: Tiles, wanted: slice) -> Tensor:
    """Return dL/dz of the rows ``wanted`` of z."""
    rows = tiles.rows
    grad_z = tiles.new_empty(wanted.stop - wanted.start, rows.stored.shape[1]).zero_()
    for tile in tiles.schedule:
        by_row = wanted.start <= tile.rows.start < wanted.stop
        by_column = tile.turned and wanted.start <= tile.columns.start < wanted.stop
        if not (by_row or by_column):
            continue
        w = weights.apply(tiles.compute(tile), tile)
        if by_row:
            rows.add_weighted(w, tile.columns, _within(grad_z, tile.rows, wanted))
        if by_column:
            rows.add_weighted(w.T, tile.rows, _within(grad_z, tile.columns, wanted))
    return grad_z if isinstance(weights.gain, float) else grad_z.div_(weights.gain)


def _within(grad_z: Tensor, part: slice, wanted: slice) -> Tensor:
    return grad_z[part.start - wanted.start : part.stop - wanted.start]


def _sides(tile: Tile) -> tuple[slice, slice]:
    return tile.rows, tile.columns
