"""The test that found each planted fault in the last run: found.csv, tabulated in the docs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from tests.mutants.fault import Fault

FILE = Path(__file__).with_name("found.csv")
COLUMNS = ("suite", "fault", "found by")
Found = dict[tuple[str, str], str]


def read(file: Path = FILE) -> Found:
    """Return what found a fault, by suite and name of the fault."""
    with file.open(newline="", encoding="utf-8") as rows:
        return {(row["suite"], row["fault"]): row["found by"] for row in csv.DictReader(rows)}


def record(suite: str, found: Mapping[str, str], file: Path = FILE) -> None:
    """Record the tests that found these faults of a suite; entries of other faults are kept."""
    known = read(file) | {(suite, fault): killer for fault, killer in found.items()}
    with file.open("w", newline="", encoding="utf-8") as rows:
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((*key, killer) for key, killer in sorted(known.items()))


def table(suite: str, faults: list[Fault], found: Found) -> str:
    """Return a suite's faults as Markdown, with what found each, if it has been run."""
    killers = {fault.name: found.get((suite, fault.name), "**not run yet**") for fault in faults}
    count = sum(bool(found.get((suite, name))) for name in killers)
    lines = [f"{count} of {len(faults)} were found:", ""]
    lines += ["| fault | file | found by |", "|---|---|---|"]
    for fault in faults:
        killer = killers[fault.name] or "**nothing**"
        lines.append(f"| {fault.name} | `{fault.file.rpartition('/')[2]}` | {killer} |")
    return "\n".join(lines)
