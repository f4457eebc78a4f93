"""Analyzes the rows of a run: growth, the largest batch, the best peer, where a peer is faster."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.loss.peers import OURS, TILED
from benchmarks.loss.rows import Row
from simclr_ext.bench.machine import flop

FITTED = 3  # the largest sizes, to which growth is fitted: small ones measure the cost of a call
BOTH = "forward + backward"


def main_series(rows: Sequence[Row]) -> list[Row]:
    """Return the rows over N of both passes: D = 128, float32, T = 0.5, the most threads."""
    threads = max((row.threads for row in rows), default=0)
    wanted = (BOTH, 128, "float32", threads, 0.5)
    return [r for r in rows if (r.what, r.d, r.dtype, r.threads, r.temperature) == wanted]


def by_peer(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each implementation, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.peer, []).append(row)
    return found


def by_shape(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the rows of each shape and pass together, in their order."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(row.shape, []).append(row)
    return list(found.values())


def own(rows: Iterable[Row]) -> Row | None:
    """Return the row of this package's default among rows of one shape, if it was timed."""
    return next((row for row in rows if row.peer == OURS and row.ms is not None), None)


def others(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the peers that were timed, without our backends, the fastest first."""
    timed = [row for row in rows if row.peer not in (OURS, TILED) and row.ms is not None]
    return sorted(timed, key=lambda row: row.ms or 0.0)


def efficiency(row: Row) -> float:
    """Return the efficiency: the rate of a time as a share of the rate of `torch.mm`.

    4 (2N)^2 D FLOP for forward and backward, as docs/math.md counts, over the time and the rate.
    """
    if row.ms is None or row.mm_gflops is None:
        raise ValueError(f"{row.peer} was not timed at N = {row.n}: {row.status}")
    return flop(row.n, row.d, row.what) / (row.ms / 1e3) / (row.mm_gflops * 1e9)


@dataclass(frozen=True)
class Growth:
    """value = factor N^exponent, fitted to the largest sizes measured."""

    exponent: float
    factor: float
    largest: int  # N measured

    def size(self, value: float) -> int:
        """Return the largest N with values up to this one, assuming at least linear growth."""
        at_largest = self.factor * self.largest**self.exponent
        factor: float = (value / at_largest) ** (1 / max(1.0, self.exponent))
        return math.floor(self.largest * factor)


def growth(points: Sequence[tuple[int, float]]) -> Growth | None:
    """Fit a power of N by least squares of the logarithms; None with fewer than two points > 0.

    Args:
        points: N and value.
    """
    used = sorted((n, value) for n, value in points if value > 0)[-FITTED:]
    if len({n for n, _ in used}) < 2:
        return None
    xs, ys = [math.log(n) for n, _ in used], [math.log(value) for _, value in used]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    return Growth(slope, math.exp(y_mean - slope * x_mean), used[-1][0])


def time_growth(rows: Iterable[Row]) -> Growth | None:
    """Fit the growth of one implementation's time."""
    return growth([(row.n, row.ms) for row in rows if row.ms is not None])


def memory_growth(rows: Iterable[Row]) -> Growth | None:
    """Fit the growth of one implementation's peak memory.

    As counted by torch's allocator, which is exact; outside torch the resident memory.
    """
    peaks = ((r.n, r.allocated_mib if r.allocated_mib is not None else r.rss_mib) for r in rows)
    return growth([(n, peak) for n, peak in peaks if peak is not None])


def slower_than_a_peer(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Return our row and the best peer's, for each shape at which a peer was faster."""
    found = []
    for shape in by_shape(rows):
        ours, best = own(shape), next(iter(others(shape)), None)
        if ours is not None and best is not None and (best.ms or 0) < (ours.ms or 0):
            found.append((ours, best))
    return found
