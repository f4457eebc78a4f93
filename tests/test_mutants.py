"""Planted faults fit the sources; `make mutants` checks that tests find them."""

from __future__ import annotations

import pytest

from tests.mutants import cpu, cuda, tiled
from tests.mutants.fault import Fault, misplaced

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
