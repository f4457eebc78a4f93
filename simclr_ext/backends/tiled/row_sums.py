"""The forward pass: tiles of S become row sums, and row sums the losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simclr_ext.backends.tiled.problem import Tile
from simclr_ext.backends.tiled.row_stats import RowStats
from simclr_ext.backends.tiled.rows import sum_dtype
from simclr_ext.backends.tiled.tiles import Tiles

_LN_2 = math.log(2)


class RowSums:
    """Sums over the columns of each row and over the rows of each column, accumulated by tiles.

        sum_i          = sum_j 2^(exponent_scale (x_ij - max_i))
        positive_sum_i = sum_{j positive} x_ij

    max_i is the largest x_ij so far (the sum is rescaled when it rises), or 0 without shifts.
    """

    def __init__(self, tiles: Tiles, *, with_stats: bool = False) -> None:
        rows = tiles.rows
        self._tiles = tiles
        self._max = tiles.new_empty(len(rows))
        # Below every similarity, yet finite: for a fully masked row, -inf - (-inf) is NaN.
        self._max.fill_(0.0 if tiles.unshifted else torch.finfo(rows.dtype).min)
        self._sum = torch.zeros_like(self._max, dtype=sum_dtype(self._max.device))
        self._positive_sum = torch.zeros_like(self._sum)
        self._stats = RowStats(tiles, self._sum) if with_stats else None

    def add(self, x: Tensor, tile: Tile) -> None:
        """Add a tile to its rows and, if it is turned, to its columns. Overwrites ``x``."""
        self._add_positives(x, tile)
        self._tiles.pairing.leave_out(x, tile)
        unshifted = self._tiles.unshifted
        exponents = x.clone() if self._stats is not None else x  # the tile itself is overwritten
        if unshifted:
            x.exp2_()
        for part, dim in _sides(tile):
            terms = x if unshifted else self._shifted_terms(x, part, dim)
            self._sum[part] += terms.sum(dim)
            if self._stats is not None:
                self._stats.add_weighted(exponents, terms, part, dim)
        if self._stats is not None:
            self._stats.add_negatives(exponents, tile)

    def _add_positives(self, x: Tensor, tile: Tile) -> None:
        for diagonal in self._tiles.pairing.diagonals(tile):
            values = x.diagonal(diagonal.offset)
            self._positive_sum[diagonal.rows] += values
            if tile.turned:
                self._positive_sum[diagonal.columns] += values
        matches = self._tiles.pairing.matches(tile)
        if matches is not None:
            values = self._tiles.scratch(x).copy_(x).masked_fill_(matches.logical_not_(), 0)
            for part, dim in _sides(tile):
                self._positive_sum[part] += values.sum(dim)

    def _shifted_terms(self, x: Tensor, part: slice, dim: int) -> Tensor:
        scale = self._tiles.exponent_scale
        old = self._max[part]
        new = torch.maximum(old, x.amax(dim))
        factor = (old.to(self._sum.dtype) - new).mul_(scale).exp2_()
        self._sum[part] *= factor
        if self._stats is not None:
            self._stats.weighted[part] *= factor
        self._max[part] = new
        return torch.sub(x, new.unsqueeze(dim), out=self._tiles.scratch(x)).mul_(scale).exp2_()

    def stats(self) -> tuple[Tensor, ...]:
        """Return the by-products."""
        assert self._stats is not None
        return self._stats.finish(self._sum, self._positive_sum)

    def finish(self) -> tuple[Tensor, Tensor]:
        """Return loss and lse of the rows and of the columns."""
        problem, scale = self._tiles.problem, self._tiles.exponent_scale
        pairing = self._tiles.pairing
        positives = pairing.count_positives(problem, self._max.device)
        shift = self._max.to(self._sum.dtype)
        # Relative to the shift, like the sum, so that both cancel where the positive dominates.
        exponent = (self._positive_sum / positives.clamp(min=1) - shift) * scale
        log_sum = self._sum.log2()
        if pairing.denominator == "positives":
            _take(exponent, log_sum, positives == 1, slice(None))
        elif pairing.denominator == "all":
            if problem.columns - problem.same == 1:
                _take(exponent, log_sum, positives > 0, problem.row_range)
            if problem.rows == 1 and not problem.same:
                _take(exponent, log_sum, positives > 0, problem.column_range)
        lse = (shift * scale + log_sum) * _LN_2
        loss = (log_sum - exponent) * _LN_2
        if pairing.sums_positives:  # their mean cannot exceed the lse: a negative loss is rounding
            loss = loss.clamp_min_(0)
        loss = torch.where(positives > 0, loss, 0).to(self._max.dtype)
        return loss[problem.results].clone(), lse[problem.results].clone()


def _take(exponent: Tensor, log_sum: Tensor, alone: Tensor, part: slice) -> None:
    # If the positive is the only term, its exponent is the exact logarithm of the sum.
    log_sum[part] = torch.where(alone[part], exponent[part], log_sum[part])


def _sides(tile: Tile) -> list[tuple[slice, int]]:
    """Return the rows of z that a tile adds to, and the dimension of the tile to sum over."""
    return [(tile.rows, 1), (tile.columns, 0)] if tile.turned else [(tile.rows, 1)]
