"""Which pairs count, which are positive, and which are terms of the log-sum-exp."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from simclr_ext.backends.reference import Denominator
from simclr_ext.backends.tiled.problem import Problem, Tile


@dataclass(frozen=True)
class Diagonal:
    """The positives of a tile that lie on one diagonal.

    Args:
        offset: The argument of ``Tensor.diagonal``.
        rows: The rows of these positives, in z.
        columns: Their columns, in z, one for each row.
    """

    offset: int
    rows: slice
    columns: slice


@dataclass(frozen=True)
class Pairing:
    """Pairs (i, j) of rows of z, where i is one of the rows X and j one of the columns Y.

    Args:
        skip_self: Whether the pairs (i, i) do not count.
        shifts: A pair is positive if j - i is one of these.
        labels: Instead of shifts, [rows of z] int32: a pair is positive if both labels are equal.
        ignored: [rows of z] int32: pairs of equal numbers are no terms, unless they are positive.
        denominator: Which pairs are terms of the log-sum-exp.
    """

    skip_self: bool
    shifts: tuple[int, ...] = ()
    labels: Tensor | None = None
    ignored: Tensor | None = None
    denominator: Denominator = "all"

    @classmethod
    def of(
        cls,
        problem: Problem,
        shifts: Sequence[int],
        label: Tensor | None = None,
        ignored: Tensor | None = None,
        denominator: Denominator = "all",
    ) -> Pairing:
        """Return the pairing of a problem as the operators describe it.

        Args:
            problem: The rows and columns.
            shifts: Differences between a positive's index in Y and the row's index in X.
            label: [rows of z].
            ignored: [rows of z].
            denominator: Which pairs are terms of the log-sum-exp.
        """
        in_z = 0 if problem.same else problem.column0 - problem.row0
        in_rows = tuple(shift + in_z for shift in shifts)
        return cls(problem.same, in_rows, label, ignored, denominator)

    @property
    def sums_positives(self) -> bool:
        """Whether positives are terms of the log-sum-exp."""
        return self.denominator != "negatives"

    def transposed(self) -> Pairing:
        """Return the pairing of the columns with the rows."""
        return replace(self, shifts=tuple(-shift for shift in self.shifts))

    def mask(self, x: Tensor, tile: Tile) -> None:
        """Set the pairs of a tile ``x`` that do not count to -inf."""
        if self.skip_self:
            for diagonal in _diagonals(tile, [0]):
                x.diagonal(diagonal.offset).fill_(-math.inf)

    def diagonals(self, tile: Tile) -> Iterator[Diagonal]:
        """Yield the diagonals of a tile that are positive by their shift."""
        return _diagonals(tile, self.shifts)

    def matches(self, tile: Tile) -> Tensor | None:
        """Return which pairs of a tile are positive by their labels, bool; None without labels."""
        if self.labels is None:
            return None
        same = self.labels[tile.rows, None] == self.labels[tile.columns]
        if self.skip_self:
            for diagonal in _diagonals(tile, [0]):
                same.diagonal(diagonal.offset).fill_(False)
        return same

    def leave_out(self, x: Tensor, tile: Tile) -> None:
        """Set the pairs of a tile ``x`` that are not terms of the log-sum-exp to -inf."""
        matches = self.matches(tile)
        if self.denominator == "negatives":
            for diagonal in self.diagonals(tile):
                x.diagonal(diagonal.offset).fill_(-math.inf)
            if matches is not None:
                x.masked_fill_(matches, -math.inf)
        if self.denominator == "positives":
            left_out = torch.ones_like(x, dtype=torch.bool)
        elif self.ignored is not None:
            left_out = self.ignored[tile.rows, None] == self.ignored[tile.columns]
        else:
            return
        for diagonal in self.diagonals(tile):
            left_out.diagonal(diagonal.offset).fill_(False)
        if matches is not None:
            left_out &= ~matches
        x.masked_fill_(left_out, -math.inf)

    def count_positives(self, problem: Problem, device: torch.device) -> Tensor:
        """Return the number of positives of each row of z, int64, in O(R + C) memory."""
        rows, columns = problem.row_range, problem.column_range
        if problem.same:
            return self._count(columns, columns, device)
        turned = self.transposed()._count(columns, rows, device)
        return torch.cat([self._count(rows, columns, device), turned])

    def _count(self, rows: slice, columns: slice, device: torch.device) -> Tensor:
        if self.labels is not None:
            own, others = self.labels[rows], self.labels[columns].sort().values
            ends = (torch.searchsorted(others, own, right=right) for right in (False, True))
            first, end = ends
            return end - first - int(self.skip_self)
        found = torch.zeros(rows.stop - rows.start, dtype=torch.int64, device=device)
        for diagonal in _diagonals(Tile(rows, columns, turned=False), self.shifts):
            found[diagonal.rows.start - rows.start : diagonal.rows.stop - rows.start] += 1
        return found


def _diagonals(tile: Tile, shifts: Sequence[int]) -> Iterator[Diagonal]:
    rows, columns = tile.shape
    for shift in shifts:
        offset = tile.rows.start + shift - tile.columns.start
        length = min(rows - max(-offset, 0), columns - max(offset, 0))
        if length > 0:
            row = tile.rows.start + max(-offset, 0)
            yield Diagonal(
                offset, slice(row, row + length), slice(row + shift, row + shift + length)
            )
