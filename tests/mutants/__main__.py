"""Plants faults in the kernels, one at a time, and checks that the tests find each.

    python -m tests.mutants [cpu|tiled|cuda ...] [--only TEXT] [--changed REVISION] [--new]

Works on a copy. Prints a row of a Markdown table per fault, and fails if one survives, or if the
text that a fault replaces is no longer there. What found each is kept in found.csv, for the docs.
`--changed` takes the faults of files that differ from a revision of git: a quick check of a change.
`--new` takes those that found.csv lacks.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.mutants import cpu, cuda, tiled
from tests.mutants.fault import ROOT, Fault, copy_project, misplaced
from tests.mutants.found import read, record

SUITES = {"cpu": cpu, "tiled": tiled, "cuda": cuda}


def main() -> int:
    """Run the requested faults; return the number of survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="cpu|tiled|cuda", help="all by default")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults with this in their name")
    parser.add_argument("--changed", metavar="REVISION", help="faults of files changed since then")
    parser.add_argument("--new", action="store_true", help="faults that were never run")
    options = parser.parse_args()
    names = options.suites or list(SUITES)
    if unknown := set(names) - set(SUITES):
        parser.error(f"suites are {', '.join(SUITES)}, got {', '.join(sorted(unknown))}")
    files = changed_files(options.changed)
    known = {fault for _, fault in read()} if options.new else set()
    chosen = {name: select(SUITES[name].FAULTS, options.only, files, known) for name in names}
    if sentences := misplaced([fault for faults in chosen.values() for fault in faults]):
        sys.exit("\n".join(["Update these faults:", *sentences]))
    survivors = 0
    for name in names:
        found = run_suite(
            SUITES[name].first_failure,
            chosen[name],
            lambda fault, killer, name=name: record(name, {fault: killer}),
        )
        survivors += len(chosen[name]) - sum(map(bool, found.values()))
    total = sum(map(len, chosen.values()))
    print(f"\n{total - survivors} of {total} found")
    return survivors


def changed_files(revision: str | None) -> set[str] | None:
    """Return the files that differ from a revision, or None for all."""
    if revision is None:
        return None
    command = ["git", "diff", "--name-only", revision]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def select(faults: list[Fault], text: str, files: set[str] | None, known: set[str]) -> list[Fault]:
    """Return the faults whose name holds the text, in these files, without the known ones."""
    return [
        fault
        for fault in faults
        if text in fault.name and (files is None or fault.file in files) and fault.name not in known
    ]


def run_suite(
    first_failure: cpu.FirstFailure, faults: list[Fault], keep: Callable[[str, str], None]
) -> dict[str, str]:
    """Run the tests on a copy with each fault; return what found each, "" of survivors.

    Args:
        first_failure: Runs the tests on a copy.
        faults: Planted one after the other.
        keep: Called with the name of a fault and what found it, at once: a run of all takes hours.
    """
    found: dict[str, str] = {}
    if not faults:
        return found
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "copy"
        copy.mkdir()
        copy_project(copy)
        if (killer := first_failure(copy)) is not None:
            sys.exit(f"the tests fail without a fault: {killer}")
        print("| fault | file | found by |\n|---|---|---|", flush=True)
        for fault in faults:
            fault.plant(copy)
            killer = found[fault.name] = first_failure(copy) or ""
            print(f"| {fault.name} | {fault.file} | {killer or '**nothing**'} |", flush=True)
            keep(fault.name, killer)
            fault.remove(copy)
    return found


if __name__ == "__main__":
    sys.exit(main())
