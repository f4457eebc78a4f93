"""The files of results: a row per measurement, and a row per run with what they have in common.

Results are only ever appended; reports, charts and comparisons are made from them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from simclr_ext.bench.machine import Pass

SPEED = RESULTS / "speed.csv"
RUNS = "runs.csv"  # beside the rows

# What identifies a measurement within a run.
KEY = ("peer", "what", "n", "d", "dtype", "threads", "temperature")
COLUMNS = (
    "run",
    *KEY,
    "problem",
    "status",
    "rounds",
    "ms",
    "ms_low",
    "ms_high",
    "floor_ms",
    "mm_gflops",
    "product_gflops",
    "exp_gps",
    "memory_gbps",
    "foreign",
    "rss_mib",
    "allocated_mib",
)
RUN_COLUMNS = (
    "run",
    "plan",
    "commit",
    "machine",
    "cores",
    "memory_gib",
    "isa",
    "system",
    "python",
    "torch",
    "simclr-ext",
    "peers",
    "skipped",
)


@dataclass(frozen=True)
class Row:
    """A measurement as in the files; numbers are None where nothing was measured."""

    run: str
    peer: str
    what: Pass
    n: int
    d: int
    dtype: str
    threads: int
    temperature: float
    problem: str
    status: str
    rounds: int | None = None
    ms: float | None = None
    ms_low: float | None = None
    ms_high: float | None = None
    floor_ms: float | None = None
    mm_gflops: float | None = None
    product_gflops: float | None = None
    exp_gps: float | None = None
    memory_gbps: float | None = None
    foreign: float | None = None
    rss_mib: float | None = None
    allocated_mib: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what identifies the measurement within its run."""
        return tuple(getattr(self, column) for column in KEY)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Return the same without the implementation."""
        return self.key[1:]


_WHOLE = ("n", "d", "threads", "rounds")
_TEXT = ("run", "peer", "what", "dtype", "problem", "status")


def append(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a CSV file, created if it does not exist; numbers with five digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        for row in rows:
            writer.writerow({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def read(path: Path = SPEED) -> list[Row]:
    """Return all measurements of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Row(**{k: _parsed(k, v) for k, v in row.items()}) for row in csv.DictReader(file)]


def _parsed(column: str, text: str) -> Any:
    if column in _TEXT:
        return text
    if text == "":
        return None
    return int(text) if column in _WHOLE else float(text)


def read_runs(path: Path = SPEED) -> dict[str, dict[str, str]]:
    """Return the runs of a file of measurements, in the order of time, by their name."""
    with path.with_name(RUNS).open(newline="", encoding="utf-8") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


class NoSuchRun(LookupError):  # noqa: N818
    """The requested run is not in the results."""


def of_run(name: str | None, path: Path = SPEED) -> tuple[dict[str, str], list[Row]]:
    """Return a run and its measurements.

    Args:
        name: The run's name, or a prefix, for the latest such run; None: the last run.
        path: The file of measurements.

    Raises:
        NoSuchRun: There is none of that name, or none at all.
    """
    if not path.exists() or not path.with_name(RUNS).exists():
        raise NoSuchRun(f"there are no results at {path}; make bench measures some")
    runs = read_runs(path)
    found = [run for run in runs if name is None or run.startswith(name)]
    if not found:
        raise NoSuchRun(f"no run {name!r} in {path}; there are {', '.join(runs) or 'none'}")
    return runs[found[-1]], [row for row in read(path) if row.run == found[-1]]


def last_of(plan: str) -> str | None:
    """Return the name of the last run of a plan, "full" or "quick", in the committed results."""
    runs = read_runs() if SPEED.exists() else {}
    return next((name for name in reversed(runs) if runs[name]["plan"] == plan), None)


def last_on_other_machines(plan: str) -> list[str]:
    """Return the names of a plan's last runs, one for each machine but that of the full run."""
    runs = read_runs() if SPEED.exists() else {}
    full = last_of("full")
    measured = None if full is None else runs[full]["machine"]
    last = {run["machine"]: name for name, run in runs.items() if run["plan"] == plan}
    return [name for machine, name in last.items() if machine != measured]


def with_those_measured_alone(measured: Iterable[Row], path: Path = SPEED) -> list[Row]:
    """Return rows in which times of later runs "alone" stand in for what was skipped."""
    runs = read_runs(path)
    alone = {
        row.key: row
        for row in read(path)
        if runs[row.run]["plan"].endswith(" alone") and row.ms is not None
    }
    return [alone.get(row.key, row) if row.ms is None else row for row in measured]
