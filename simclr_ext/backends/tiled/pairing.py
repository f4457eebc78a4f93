"""Which pairs of a row and a column count, and which of these are positive."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

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
    """

    skip_self: bool
    shifts: tuple[int, ...] = ()
    labels: Tensor | None = None

    @classmethod
    def of(
        cls,
        problem: Problem,
        shifts: Sequence[int],
        x_label: Tensor | None = None,
        y_label: Tensor | None = None,
    ) -> Pairing:
        """Return the pairing of a problem as the operators describe it.

        Args:
            problem: The rows and columns.
            shifts: Differences between a positive's index in Y and the row's index in X.
            x_label: [R].
            y_label: [C]; None if the columns are the rows.
        """
        labels = x_label if y_label is None or x_label is None else torch.cat([x_label, y_label])
        in_z = 0 if problem.same else problem.column0 - problem.row0
        return cls(problem.same, tuple(shift + in_z for shift in shifts), labels)

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
