"""Which rank compares which blocks: every pair of two ranks' rows is visited once in the whole job.

Rank r compares its rows with those of the ranks r + 1, ..., r + G/2 (mod G). If G is even, r and
r + G/2 would meet twice: the one with the smaller number then takes the first half of the other's
rows, and the other takes the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simclr_ext.distributed.ranks import Ranks


@dataclass(frozen=True)
class Pair:
    """A part of the similarities of two ranks' rows.

    Args:
        distance: From this rank to the other.
        other: The other rank.
        own: Which rows of this rank.
        others: Which rows of the other.
    """

    distance: int
    other: int
    own: slice
    others: slice


def pairs(ranks: Ranks, sizes: list[int]) -> Iterator[Pair]:
    """Yield the pairs that this rank computes, by distance; rank r has sizes[r] rows."""
    own = sizes[ranks.rank]
    for distance in range(1, ranks.size // 2 + 1):
        other = ranks.after(distance)
        size = sizes[other]
        if 2 * distance < ranks.size:
            yield Pair(distance, other, slice(0, own), slice(0, size))
        elif ranks.rank < other:
            yield Pair(distance, other, slice(0, own), slice(0, size // 2))
        else:
            yield Pair(distance, other, slice(own // 2, own), slice(0, size))
