"""Artificial rows of results for the tests."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.loss.peers import OURS
from benchmarks.loss.rows import Row

BASE = Row(
    run="2026-01-01 00:00:00",
    peer=OURS,
    what="forward + backward",
    n=1024,
    d=128,
    dtype="float32",
    threads=2,
    temperature=0.5,
    problem="NT-Xent",
    status="ok",
    rounds=5,
    ms=10.0,
    ms_low=9.5,
    ms_high=10.5,
    floor_ms=5.0,
    mm_gflops=100.0,
    product_gflops=100.0,
    exp_gps=1.0,
    memory_gbps=10.0,
    foreign=0.0,
)


def row(**changes: Any) -> Row:
    """Return a row; a given time has quartiles 5 % away."""
    if changes.get("ms") is not None:
        changes = {"ms_low": 0.95 * changes["ms"], "ms_high": 1.05 * changes["ms"]} | changes
    return dataclasses.replace(BASE, **changes)


def failed(status: str, **changes: Any) -> Row:
    """Return a row without a time."""
    none = dict.fromkeys(("rounds", "ms", "ms_low", "ms_high", "foreign"))
    return dataclasses.replace(BASE, status=status, **none, **changes)


def run_of_three() -> list[Row]:
    """Return a run with our loss, quadratic in time and linear in memory, and two peers."""
    found = []
    for n in (1024, 2048, 4096, 8192):
        scale = n / 1024
        found.append(row(n=n, ms=10 * scale**2, rss_mib=2 * scale))
        found.append(row(n=n, peer="eager", ms=35 * scale**2, rss_mib=50 * scale**2))
        if n > 2048:
            found.append(failed("out of memory", n=n, peer="lightly"))
        else:
            found.append(row(n=n, peer="lightly", ms=60 * scale**2, rss_mib=70 * scale**2))
    return found
