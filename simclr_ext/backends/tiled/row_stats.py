"""By-products of the forward pass: the hardest negative of a row, and means over its pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simclr_ext.backends.tiled.problem import Tile
from simclr_ext.backends.tiled.tiles import LOG2_E, Tiles


class RowStats:
    """Accumulates what ``contrastive_stats`` of csrc/simclr_ext.h returns beside the loss.

    A tile x of terms has s = x if there is a shift, else s = x T / log2(e).
    """

    def __init__(self, tiles: Tiles, sums: Tensor) -> None:
        self._tiles = tiles
        self._similarity = 1 / (LOG2_E * tiles.inv_t) if tiles.unshifted else 1.0
        self._hardest = tiles.new_empty(len(sums)).fill_(-math.inf)
        self._index = torch.full_like(sums, -1, dtype=torch.int64)
        self.weighted = torch.zeros_like(sums)
        self._near = torch.zeros_like(sums)

    def add_weighted(self, x: Tensor, powers: Tensor, part: slice, dim: int) -> None:
        """Add sum_j s_ij 2^... of a tile to its rows (dim 1) or columns (dim 0)."""
        finite = torch.where(x == -math.inf, 0, x)  # 0 times -inf would be NaN
        self.weighted[part] += (finite * powers).sum(dim) * self._similarity

    def add_negatives(self, x: Tensor, tile: Tile) -> None:
        """Add the negatives of a tile to its rows and, if it is turned, to its columns.

        Overwrites ``x``.
        """
        pairing = self._tiles.pairing
        for diagonal in pairing.diagonals(tile):
            x.diagonal(diagonal.offset).fill_(-math.inf)
        matches = pairing.matches(tile)
        if matches is not None:
            x.masked_fill_(matches, -math.inf)
        s = x.mul_(self._similarity)
        sides = [(tile.rows, tile.columns, 1)]
        if tile.turned:
            sides.append((tile.columns, tile.rows, 0))
        for part, others, dim in sides:
            largest, index = s.max(dim)
            index = torch.where(largest == -math.inf, -1, index + others.start)
            old, old_index = self._hardest[part], self._index[part]
            equal = (largest == old) & (index >= 0) & (index < old_index)
            better = (largest > old) | equal
            self._hardest[part] = torch.where(better, largest, old)
            self._index[part] = torch.where(better, index, old_index)
            self._near[part] += (4 * (s - 1)).exp().sum(dim)

    def finish(self, sums: Tensor, positive_sums: Tensor) -> tuple[Tensor, ...]:
        """Return the by-products, given the sums of the powers and of the positives' exponents."""
        problem, pairing = self._tiles.problem, self._tiles.pairing
        positive = positive_sums / pairing.count_positives(problem, sums.device)
        positive = positive.to(self._hardest.dtype) * self._similarity  # rounded as the negatives
        mean = self.weighted / sums
        results = (positive, self._hardest, self._index, mean, self._near)
        return tuple(values[problem.results].clone() for values in results)
