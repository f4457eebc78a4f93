"""How the rows of a rank meet the columns of the others: all at once, or one rank after another.

"gather": one all-gather of the columns, and one all-to-all of what was found about them: O(M D)
memory for M columns in all.

"ring": columns pass from rank to rank, and what was found about a visitor is sent home before the
next one is compared: O(M D / G) memory. The next columns are on their way while the current ones
are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from simclr_ext.distributed.pairs import Pair, pairs
from simclr_ext.distributed.ranks import Ranks, split

Exchange = Literal["gather", "ring"]
EXCHANGES = get_args(Exchange)


@dataclass(frozen=True)
class Meeting:
    """Rows of this rank and columns of all.

    Args:
        ranks: The processes.
        exchange: "gather" or "ring".
        rows: The number of rows of each rank.
        columns: The number of columns of each rank.
        same: Whether the columns are the rows.
    """

    ranks: Ranks
    exchange: str
    rows: Sequence[int]
    columns: Sequence[int]
    same: bool

    def visits(
        self, own: Sequence[Tensor], columns: Sequence[Tensor]
    ) -> Iterator[tuple[Pair, list[Tensor]]]:
        """Yield each pair with [own rows; the other's columns] of each tensor.

        Args:
            own: Tensors of the own rows, [rows, ...].
            columns: The same of the own columns, which visit the others.
        """
        coming = self._pairs_of(self.ranks.rank)
        if not coming:
            return
        rows, largest = len(own[0]), max(self.columns[pair.other] for pair in coming)
        both = [tensor.new_empty(rows + largest, *tensor.shape[1:]) for tensor in own]
        for room, tensor in zip(both, own, strict=True):
            room[:rows] = tensor
        arrive = self._gathered if self.exchange == "gather" else self._passed_on
        for pair in arrive(coming, columns, [room[rows:] for room in both]):
            yield pair, [room[: rows + self.columns[pair.other]] for room in both]

    def _pairs_of(self, rank: int) -> list[Pair]:
        return list(pairs(rank, self.rows, self.columns, self.same))

    def _gathered(
        self, coming: list[Pair], columns: Sequence[Tensor], room: Sequence[Tensor]
    ) -> Iterator[Pair]:
        everyone = [
            split(self.ranks.gather_rows(tensor, self.columns), self.columns) for tensor in columns
        ]
        for pair in coming:
            for place, parts in zip(room, everyone, strict=True):
                place[: len(parts[pair.other])] = parts[pair.other]
            yield pair

    def _passed_on(
        self, coming: list[Pair], columns: Sequence[Tensor], room: Sequence[Tensor]
    ) -> Iterator[Pair]:
        arriving = self._pass_back(columns, self.ranks.rank)
        for pair in coming:
            size = self.columns[pair.other]
            for place, (visitors, work) in zip(room, arriving, strict=True):
                work.wait()
                place[:size] = visitors
            arriving = []
            if pair is not coming[-1]:
                arriving = self._pass_back([place[:size] for place in room], pair.other)
            yield pair

    def _pass_back(self, tensors: Sequence[Tensor], here: int) -> list[tuple[Tensor, dist.Work]]:
        """Pass the columns of rank `here` to the rank before; return those of the rank after it."""
        ranks = self.ranks
        coming = self.columns[(here + 1) % ranks.size]
        sent = ranks.alone(ranks.after(-1), self.columns[here])
        received = ranks.alone(ranks.after(1), coming)
        return [ranks.exchange(tensor, sent, received) for tensor in tensors]


class Home:
    """Sends home what was found about the others' columns, and joins what comes home.

    Args:
        meeting: Where they met.
        join: Called with what one rank has found about the first so many of the own columns, in the
            order of the distances.
    """

    def __init__(self, meeting: Meeting, join: Callable[[Tensor], None]) -> None:
        self._meeting = meeting
        self._join = join
        self._found: list[tuple[int, Tensor]] = []

    def send(self, pair: Pair, found: Tensor) -> None:
        """Send what was found about the columns of a pair."""
        if self._meeting.exchange == "gather":
            self._found.append((pair.other, found.clone()))
            return
        ranks = self._meeting.ranks
        source, size = self._coming(pair.distance)
        sent, received = ranks.alone(pair.other, len(found)), ranks.alone(source, size)
        arrived, work = ranks.exchange(found, sent, received)
        work.wait()
        self._join(arrived)

    def finish(self) -> None:
        """Join all that has not come home yet."""
        if not self._found:
            return
        ranks = self._meeting.ranks
        sent, received = [0] * ranks.size, [0] * ranks.size
        for other, found in self._found:
            sent[other] = len(found)
        sources = [self._coming(step) for step in range(1, len(self._found) + 1)]
        for source, size in sources:
            received[source] = size
        in_order = torch.cat([found for _, found in sorted(self._found, key=lambda item: item[0])])
        self._found.clear()
        arrived, work = ranks.exchange(in_order, sent, received)
        work.wait()
        parts = split(arrived, received)
        for source, _ in sources:
            self._join(parts[source])

    def _coming(self, distance: int) -> tuple[int, int]:
        """Return the rank whose pair at a distance is with this one, and its columns."""
        source = self._meeting.ranks.after(-distance)
        pair = self._meeting._pairs_of(source)[distance - 1]
        return source, pair.end
