"""Each pair of two ranks' rows is visited once in the whole job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import pytest
import torch
import torch.distributed as dist

from simclr_ext.distributed.meeting import KEEPING, Meeting
from simclr_ext.distributed.pairs import Pairs
from simclr_ext.distributed.ranks import Ranks

SIZES = [(3, 3), (2, 5, 1), (4, 4, 4, 4), (1, 7, 2, 3), (2, 1, 3, 4, 2), (3,) * 6]


def met(rows: Sequence[int], columns: Sequence[int], same: bool, pieces: int) -> Counter[object]:
    """Return how often each row of a rank meets each column of another."""
    pairs, found = Pairs(rows, columns, same, pieces), Counter[object]()
    for rank in range(len(rows)):
        for pair in (pairs.of(rank, step) for step in range(len(pairs))):
            assert pair.begin < pair.end
            for i in range(pair.first, rows[rank]):
                for j in range(pair.begin, pair.end):
                    both = (rank, i), (pair.other, j)
                    found[frozenset(both) if same else both] += 1
    return found


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rows_that_are_columns_meet_once(sizes: tuple[int, ...], pieces: int) -> None:
    found = met(sizes, sizes, True, pieces)
    pairs = sum(sizes) ** 2 - sum(size**2 for size in sizes)
    assert set(found.values()) == {1}
    assert len(found) == pairs // 2


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("sizes", [(1, 1), *SIZES], ids=str)
def test_other_columns_meet_once(sizes: tuple[int, ...], pieces: int) -> None:
    columns = sizes[::-1]
    found = met(sizes, columns, False, pieces)
    own = sum(r * c for r, c in zip(sizes, columns, strict=True))
    assert set(found.values()) == {1}
    assert len(found) == sum(sizes) * sum(columns) - own


def test_what_is_kept_has_as_many_rows_as_have_visited() -> None:
    ranks = Ranks(cast(dist.ProcessGroup, None), 0, 2)
    meeting = Meeting(ranks, KEEPING, [4, 4], [4, 4], same=True)
    with pytest.raises(ValueError, match=r"visitors must be \[2, \.\.\.\], got \[1, 3\]"):
        meeting.visits([torch.ones(4, 3)], [], [torch.ones(1, 3)])
