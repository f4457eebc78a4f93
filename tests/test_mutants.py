"""Planted faults fit the sources; `make mutants` checks that tests find them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants import cpu, cuda, tiled
from tests.mutants.__main__ import run_suite, select
from tests.mutants.fault import ROOT, Fault, misplaced

FAULTS = [*cpu.FAULTS, *tiled.FAULTS, *cuda.FAULTS]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_text_that_a_fault_replaces_is_there_once(fault: Fault) -> None:
    assert misplaced([fault]) == []
    assert fault.old != fault.new


def test_a_fault_whose_text_a_refactoring_changed_is_named() -> None:
    fault = Fault("barrier left out", "csrc/ops.cpp", "no such text", "")
    assert misplaced([fault]) == ["barrier left out: 'no such text' occurs 0 times in csrc/ops.cpp"]


def test_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_run_says_what_found_each_fault() -> None:
    first, second = FAULTS[:2]

    def first_failure(folder: Path) -> str | None:
        """Return a failure for the first fault alone."""
        changed = (folder / first.file).read_text() != (ROOT / first.file).read_text()
        return "test a" if changed and first.new in (folder / first.file).read_text() else None

    kept: dict[str, str] = {}
    found = run_suite(first_failure, [first, second], kept.__setitem__)
    assert found == kept == {first.name: "test a", second.name: ""}
    assert run_suite(first_failure, [], kept.__setitem__) == {}


def test_faults_are_taken_by_name_by_file_and_if_they_were_never_run() -> None:
    first, second = (Fault(name, f"{name}.h", "old", "new") for name in ("grid: a", "tile: b"))
    assert select([first, second], "", None, set()) == [first, second]
    assert select([first, second], "grid", None, set()) == [first]
    assert select([first, second], "", {"tile: b.h"}, set()) == [second]
    assert select([first, second], "", None, {"grid: a"}) == [second]
