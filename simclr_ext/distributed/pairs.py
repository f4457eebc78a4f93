"""Which rank compares which blocks: every pair of two ranks' rows is visited once in the whole job.

If the columns are the rows, S is symmetric, and rank r compares its rows with those of the ranks
r + 1, ..., r + G/2 (mod G). If G is even, r and r + G/2 would meet twice: the one with the smaller
number then takes the first half of the other's rows, and the other takes the rest. Otherwise it
compares its rows with the columns of all ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A part of the similarities of a rank's rows with another's columns.

    Args:
        distance: From the rank to the other.
        other: The other rank.
        first: The rows from this one on, to the last,
        end: and the other's columns up to this one.
    """

    distance: int
    other: int
    first: int
    end: int


def pairs(rank: int, rows: Sequence[int], columns: Sequence[int], same: bool) -> Iterator[Pair]:
    """Yield the pairs that a rank computes beside its own block, by distance.

    Args:
        rank: The rank.
        rows: The number of rows of each rank.
        columns: The number of columns of each rank.
        same: Whether the columns are the rows.
    """
    size = len(rows)
    for distance in range(1, size // 2 + 1 if same else size):
        other = (rank + distance) % size
        first, end = 0, columns[other]
        if same and 2 * distance == size:
            first, end = (0, end // 2) if rank < other else (rows[rank] // 2, end)
        yield Pair(distance, other, first, end)
