"""How the rows of a rank meet the columns of the others: all at once, or piece by piece.

"gather": one all-gather of the columns, and one all-to-all of what was found about them: O(M D)
memory for M columns in all.

"gather once": the same, and the columns that were compared are kept for the backward pass, where
what is found about them travels while the own block is computed. It is what the losses do for
"gather", but in compiled code, where a tensor whose size only the ranks know would end the graph.

"ring": a part of the columns of the next rank, then of the one after it, etc., visits, and what was
found about it is sent home before the next one is compared: O(M D / G) memory. The next part is on
its way while the current one is compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from simclr_ext.distributed.pairs import Pair, Pairs
from simclr_ext.distributed.ranks import Ranks, split

KEEPING = "gather once"
# Into how many parts the columns of a rank are cut: more take less memory, and more messages.
_PIECES = {"gather": 1, KEEPING: 1, "ring": 2}


@dataclass(frozen=True)
class Meeting:
    """Rows of this rank and columns of all.

    Args:
        ranks: The processes.
        exchange: "gather", "gather once" or "ring".
        rows: The number of rows of each rank.
        columns: The number of columns of each rank.
        same: Whether the columns are the rows.
    """

    ranks: Ranks
    exchange: str
    rows: Sequence[int]
    columns: Sequence[int]
    same: bool

    @property
    def keeps(self) -> bool:
        """Whether columns that have visited stay for the backward pass."""
        return self.exchange == KEEPING

    @property
    def kept_rows(self) -> int:
        """How many columns this rank keeps."""
        return sum(pair.end - pair.begin for pair in self._coming) if self.keeps else 0

    @functools.cached_property
    def _coming(self) -> list[Pair]:
        """The pairs of this rank, in order."""
        return [self.pairs.of(self.ranks.rank, step) for step in range(len(self.pairs))]

    @functools.cached_property
    def pairs(self) -> Pairs:
        """The pairs that each rank computes."""
        return Pairs(self.rows, self.columns, self.same, _PIECES[self.exchange])

    def visits(
        self, own: Sequence[Tensor], columns: Sequence[Tensor], kept: Sequence[Tensor] = ()
    ) -> Iterator[tuple[Pair, list[Tensor]]]:
        """Send for the first columns, and return what yields each pair when it is there.

        A pair comes with [own rows; the other's columns of the pair] of each tensor, which are
        overwritten by the next.

        Args:
            own: Tensors of the own rows, [rows, ...]: those of `kept`, then those of `columns`.
            columns: The same of the own columns, which visit the others.
            kept: Columns that have visited before, of all pairs in order.
        """
        for tensor in kept:
            if len(tensor) != self.kept_rows:
                raise ValueError(
                    f"visitors must be [{self.kept_rows}, ...], got {list(tensor.shape)}"
                )
        coming = self._coming
        if not coming:
            return iter(())
        start = self._one_by_one if self.exchange == "ring" else self._gathered
        return self._beside_own(own, coming, start(coming, columns), kept)

    def _beside_own(
        self,
        own: Sequence[Tensor],
        coming: list[Pair],
        arrivals: Iterator[tuple[Pair, list[Tensor]]],
        kept: Sequence[Tensor],
    ) -> Iterator[tuple[Pair, list[Tensor]]]:
        rows, largest = len(own[0]), max(pair.end - pair.begin for pair in coming)
        both = [tensor.new_empty(rows + largest, *tensor.shape[1:]) for tensor in own]
        for room, tensor in zip(both, own, strict=True):
            room[:rows] = tensor
        before = 0
        for pair, visitors in arrivals:
            size = pair.end - pair.begin
            here = [tensor[before : before + size] for tensor in kept]
            before += size
            for room, tensor in zip(both, [*here, *visitors], strict=True):
                room[rows : rows + size] = tensor
            visitors.clear()  # before the next ones arrive
            yield pair, [room[: rows + size] for room in both]

    def _gathered(
        self, coming: list[Pair], columns: Sequence[Tensor]
    ) -> Iterator[tuple[Pair, list[Tensor]]]:
        gathered = [self.ranks.start_gathering(tensor, self.columns) for tensor in columns]

        def arrive() -> Iterator[tuple[Pair, list[Tensor]]]:
            everyone = [finish() for finish in gathered]
            for pair in coming:
                yield pair, [parts[pair.other][pair.begin : pair.end] for parts in everyone]

        return arrive()

    def _one_by_one(
        self, coming: list[Pair], columns: Sequence[Tensor]
    ) -> Iterator[tuple[Pair, list[Tensor]]]:
        leaving = self.visits_of_own()
        first = self._start(coming[0], leaving[0], columns)

        def arrive() -> Iterator[tuple[Pair, list[Tensor]]]:
            arriving = first
            for step, pair in enumerate(coming):
                visitors = []
                while arriving:
                    tensor, work = arriving.pop(0)
                    work.wait()
                    visitors.append(tensor)
                if step + 1 < len(coming):
                    arriving = self._start(coming[step + 1], leaving[step + 1], columns)
                yield pair, visitors

        return arrive()

    def _start(
        self, pair: Pair, own: tuple[int, Pair], columns: Sequence[Tensor]
    ) -> list[tuple[Tensor, dist.Work]]:
        """Begin to receive the columns of a pair, and to send the own ones of another rank's."""
        to, visit = own
        received = self.ranks.alone(pair.other, pair.end - pair.begin)
        sent = self.ranks.alone(to, visit.end - visit.begin)
        parts = [tensor[visit.begin : visit.end] for tensor in columns]
        return [self.ranks.exchange(part, sent, received) for part in parts]

    def visits_of_own(self) -> list[tuple[int, Pair]]:
        """Return the rank that own columns visit at each step, and its pair."""
        visits = []
        for step, pair in enumerate(self._coming):
            host = self.ranks.after(-pair.distance)
            visits.append((host, self.pairs.of(host, step)))
        return visits


class Kept:
    """The stored rows and norms of columns that have visited, in order.

    Args:
        z: The own ones, for their dtype and layout.
        inv_norm: Likewise; [0] if rows are not normalized.
        rows: How many there will be.
    """

    def __init__(self, z: Tensor, inv_norm: Tensor, rows: int) -> None:
        self.z = z.new_empty(rows, z.shape[1])
        self.inv_norm = inv_norm.new_empty(rows if len(inv_norm) else 0)
        self._end = 0

    def add(self, z: Tensor, inv_norm: Tensor) -> None:
        """Keep those of a pair."""
        begin, self._end = self._end, self._end + len(z)
        self.z[begin : self._end] = z
        self.inv_norm[begin : self._end] = inv_norm


class Home:
    """Sends home what was found about the others' columns, and joins what comes home.

    Args:
        meeting: Where they met.
        join: Called with what was found about a part of the own columns, and where they begin, in
            the order of the pairs.
    """

    def __init__(self, meeting: Meeting, join: Callable[[Tensor, int], None]) -> None:
        self._meeting = meeting
        self._join = join
        self._visits = meeting.visits_of_own()
        self._found: list[tuple[int, Tensor]] = []
        self._on_the_way: tuple[Tensor, Sequence[Tensor], dist.Work] | None = None
        self._step = 0

    def send(self, pair: Pair, found: Tensor) -> None:
        """Send what was found about the columns of the next pair."""
        if self._meeting.exchange != "ring":
            self._found.append((pair.other, found.clone()))
            return
        ranks = self._meeting.ranks
        host, visit = self._visits[self._step]
        self._step += 1
        sent = ranks.alone(pair.other, len(found))
        received = ranks.alone(host, visit.end - visit.begin)
        arrived, work = ranks.exchange(found, sent, received)
        work.wait()
        self._join(arrived, visit.begin)

    def start(self) -> None:
        """Begin to send what waits to be sent together."""
        if not self._found:
            return
        ranks = self._meeting.ranks
        sent, received = [0] * ranks.size, [0] * ranks.size
        for other, found in self._found:
            sent[other] = len(found)
        for host, visit in self._visits:
            received[host] = visit.end - visit.begin
        in_order = torch.cat([found for _, found in sorted(self._found, key=lambda item: item[0])])
        self._found.clear()
        arrived, work = ranks.exchange(in_order, sent, received)
        self._on_the_way = in_order, split(arrived, received), work

    def finish(self) -> None:
        """Join all that has not come home yet."""
        self.start()
        if self._on_the_way is None:
            return
        _, parts, work = self._on_the_way
        work.wait()
        for host, visit in self._visits:
            self._join(parts[host], visit.begin)
