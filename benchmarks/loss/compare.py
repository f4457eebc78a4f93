"""Compares two runs, and flags what changed by more than its spread.

    python -m benchmarks.loss.compare BEFORE [AFTER] [--relative] [--results results/speed.csv]

A time has changed if the spreads of the two runs do not overlap, and the medians differ by more
than 5 %.
With --relative, times are compared as multiples of the time of the machine's matrix product in the
same rounds, since a machine may be slower as a whole on another day. The exit code is 1 if one of
our backends got slower, or is no longer timed where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.loss import rows
from benchmarks.loss.peers import OURS, TILED
from benchmarks.loss.rows import Row
from benchmarks.loss.tables import Table, shape_text

LEAST = 0.05  # minimum relative change: the spread of three rounds is sometimes too narrow
Verdict = Literal["slower", "faster", "same", "gone", "new"]


@dataclass(frozen=True)
class Change:
    """One measurement in two runs; a run that has no time for it has a status instead.

    Attributes:
        before: Its row in the first run, or None.
        after: Its row in the second run, or None.
        ratio: Time after / before, if both were timed.
        verdict: "gone" and "new": timed in the first or in the second run alone.
    """

    before: Row | None
    after: Row | None
    ratio: float | None
    verdict: Verdict


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; return 1 if one of our backends got slower, or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", help="name of a run")
    parser.add_argument("after", nargs="?", help="name of a run; default: the last one")
    parser.add_argument("--results", type=Path, default=rows.SPEED)
    parser.add_argument("--relative", action="store_true", help="relative to the machine's mm")
    args = parser.parse_args(argv)
    try:
        first, before = rows.of_run(args.before, args.results)
        second, after = rows.of_run(args.after, args.results)
    except rows.NoSuchRun as error:
        parser.error(str(error))
    changes = list(compare(before, after, args.relative))
    print(table(first["run"], second["run"], changes).markdown())
    return int(any(_worse(change) for change in changes))


def _worse(change: Change) -> bool:
    """Return whether one of our backends is slower, or was tried and not timed."""
    if change.after is None or change.after.peer not in (OURS, TILED):
        return False
    return change.verdict in ("slower", "gone")


def compare(before: Iterable[Row], after: Iterable[Row], relative: bool = False) -> list[Change]:
    """Return the change of every measurement that is in either run and timed in one of them."""
    old, new = ({row.key: row for row in run} for run in (before, after))
    keys = dict.fromkeys([*old, *new])
    changes = [_change(old.get(key), new.get(key), relative) for key in keys]
    return [change for change in changes if change is not None]


def _change(before: Row | None, after: Row | None, relative: bool) -> Change | None:
    was, now = before is not None and before.ms, after is not None and after.ms
    if before is None or after is None or not was or not now:
        if was or now:
            return Change(before, after, None, "gone" if was else "new")
        return None
    old, new = _spread(before, relative), _spread(after, relative)
    ratio = new[1] / old[1]
    verdict: Verdict = "same"
    if new[0] > old[2] and ratio > 1 + LEAST:
        verdict = "slower"
    elif new[2] < old[0] and ratio < 1 - LEAST:
        verdict = "faster"
    return Change(before, after, ratio, verdict)


def _spread(row: Row, relative: bool) -> tuple[float, float, float]:
    """Return low end, median and high end of the time; relative: in multiples of mm's, scaled."""
    scale = (row.mm_gflops or 1.0) if relative else 1.0
    return scale * (row.ms_low or 0), scale * (row.ms or 0), scale * (row.ms_high or 0)


def table(before: str, after: str, changes: Iterable[Change]) -> Table:
    """Return the changes as a table; those beyond the spread in bold."""
    body = []
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.verdict] = counts.get(change.verdict, 0) + 1
        row = change.after or change.before
        assert row is not None
        verdict = change.verdict if change.verdict == "same" else f"**{change.verdict}**"
        ratio = "" if change.ratio is None else f"{change.ratio:.3f}"
        cells = [_cell(side) for side in (change.before, change.after)]
        body.append([row.peer, shape_text(row), *cells, ratio, verdict])
    listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    header = ("", "shape", f"{before}, ms", f"{after}, ms", "after / before", "")
    return Table("Changes", header, body, listed or "The runs have nothing in common.")


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.ms is None:
        return row.status
    return f"{row.ms:.3g} [{row.ms_low:.3g}, {row.ms_high:.3g}]"


if __name__ == "__main__":
    sys.exit(main())
