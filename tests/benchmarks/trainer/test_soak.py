"""The soak: a leak, a file that stays open and a slower end are found."""

import dataclasses

import pytest

from benchmarks.trainer.soak import Cycle, growth, judge

FLAT = [
    Cycle(("memory", "files")[row % 2], 256 * row, row / 10, 300 + row % 3 / 10, 9, 50.0, 100.0)
    for row in range(20)
]


def test_what_stays_the_same_is_no_fault() -> None:
    assert judge(FLAT) == []
    assert abs(growth(FLAT)) < 0.1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda row: {"resident_mib": 300 + row / 2}, "memory grows by 1.95 MiB per 1,000 steps"),
        (lambda row: {"open_files": 9 + row // 6}, "memory: open files grow from 10 to 12"),
        (
            lambda row: {"steps_per_second": 50 - row},
            "memory: the speed falls to 0.73 of that at the start",
        ),
    ],
)
def test_what_does_not_is_named(change, fault: str) -> None:
    cycles = [dataclasses.replace(cycle, **change(row)) for row, cycle in enumerate(FLAT)]
    assert judge(cycles)[0] == fault


def test_a_busier_machine_is_not_a_slower_training() -> None:
    changes = [{"steps_per_second": 50.0 - row, "pace": 100.0 - 2 * row} for row in range(20)]
    cycles = [
        dataclasses.replace(cycle, **change) for cycle, change in zip(FLAT, changes, strict=True)
    ]
    assert judge(cycles) == []


def test_a_short_soak_proves_nothing() -> None:
    assert judge(FLAT[:9]) == ["too short: fewer than three cycles of each run after the first two"]
