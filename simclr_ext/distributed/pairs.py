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
        begin: and the other's columns from this one on,
        end: up to this one.
    """

    distance: int
    other: int
    first: int
    begin: int
    end: int


def pairs(
    rank: int, rows: Sequence[int], columns: Sequence[int], same: bool, pieces: int
) -> Iterator[Pair]:
    """Yield the pairs that a rank computes beside its own block, by distance.

    Every rank has as many at each distance, none of them empty.

    Args:
        rank: The rank.
        rows: The number of rows of each rank.
        columns: The number of columns of each rank.
        same: Whether the columns are the rows.
        pieces: Into how many pairs the columns of a rank are cut, if all ranks have so many.
    """
    size = len(rows)
    pieces = max(1, min(pieces, min(columns) // 2))
    for distance in range(1, size // 2 + 1 if same else size):
        other = (rank + distance) % size
        first, total = 0, columns[other]
        if same and 2 * distance == size:
            first, total = (0, total // 2) if rank < other else (rows[rank] // 2, total)
        for piece in range(pieces):
            begin, end = (total * k // pieces for k in (piece, piece + 1))
            yield Pair(distance, other, first, begin, end)
