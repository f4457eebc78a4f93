"""Which rank compares which blocks: every pair of two ranks' rows is visited once in the whole job.

If the columns are the rows, S is symmetric, and rank r compares its rows with those of the ranks
r + 1, ..., r + G/2 (mod G). If G is even, r and r + G/2 would meet twice: the one with the smaller
number then takes the first half of the other's rows, and the other takes the rest. Otherwise it
compares its rows with the columns of all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A part of the similarities of a rank's rows with another's columns.

    Args:
        distance: From the rank to the other.
        other: The other rank.
        first: The rows from this one on, to the last,
        begin: and the other's columns from this one on,
        end: up to this one.
    """

    distance: int
    other: int
    first: int
    begin: int
    end: int


class Pairs:
    """The pairs that each rank computes beside its own block, by distance.

    Every rank has as many at each distance, none of them empty.

    Args:
        rows: The number of rows of each rank.
        columns: The number of columns of each rank.
        same: Whether the columns are the rows.
        pieces: Into how many pairs the columns of a rank are cut, if all ranks have so many.
    """

    def __init__(
        self, rows: Sequence[int], columns: Sequence[int], same: bool, pieces: int
    ) -> None:
        self._rows, self._columns, self._same = rows, columns, same
        self._pieces = max(1, min(pieces, min(columns) // 2))

    def __len__(self) -> int:
        """Return how many pairs each rank has."""
        size = len(self._rows)
        return self._pieces * (size // 2 if self._same else size - 1)

    def of(self, rank: int, step: int) -> Pair:
        """Return the pair that a rank computes at a step, from 0."""
        size = len(self._rows)
        distance, piece = 1 + step // self._pieces, step % self._pieces
        other = (rank + distance) % size
        first, total = 0, self._columns[other]
        if self._same and 2 * distance == size:
            first, total = (0, total // 2) if rank < other else (self._rows[rank] // 2, total)
        begin, end = (total * k // self._pieces for k in (piece, piece + 1))
        return Pair(distance, other, first, begin, end)
