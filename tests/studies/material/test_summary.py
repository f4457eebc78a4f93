"""Means over seeds, and whether orderings hold."""

import pytest

from simclr_ext.studies.engine.study import Row
from simclr_ext.studies.material.summary import (
    ABSENT,
    cell_of,
    highest,
    matched,
    mean_by_seed,
    number,
    ordering,
    over_seeds,
)
from simclr_ext.trainer.probes.scores import Accuracy


def test_groups_have_their_own_seeds_and_skip_rows_without_the_number() -> None:
    rows: list[Row] = [
        {"head": "mlp", "seed": 0, "knn": 0.25},
        {"head": "none", "seed": 0, "knn": 0.5},
        {"head": "mlp", "seed": 1, "knn": 0.75},
        {"head": "mlp", "seed": 2, "linear": 1.0},
    ]
    found = over_seeds(rows, ["head"], "knn")
    assert found == {("mlp",): Accuracy((0.25, 0.75)), ("none",): Accuracy((0.5,))}
    assert mean_by_seed(rows, "knn") == Accuracy((0.375, 0.75))
    assert mean_by_seed(rows, "top1") is None


def test_groups_are_compared_over_what_both_have() -> None:
    def rows(*lines: tuple[int, int, float]) -> list[Row]:
        return [{"seed": seed, "dim": dim, "knn": knn} for seed, dim, knn in lines]

    one = rows((0, 8, 0.25), (0, 32, 0.75), (1, 8, 0.5))
    other = rows((0, 32, 0.5), (1, 8, 0.25), (1, 32, 1.0))
    assert matched(one, other, "knn", ["dim"]) == (Accuracy((0.75, 0.5)), Accuracy((0.5, 0.25)))
    assert matched(one, other, "knn") == (Accuracy((0.5, 0.5)), Accuracy((0.5, 0.625)))
    assert matched(one, rows((2, 8, 0.5)), "knn", ["dim"]) == (None, None)


@pytest.mark.parametrize(
    ("better", "worse", "holds", "numbers"),
    [
        ((0.5, 0.5), (0.4, 0.4), True, "50.0 ± 0.0 against 40.0 ± 0.0"),
        ((0.4,), (0.5,), False, "40.0 against 50.0, of a single seed"),
        ((0.5,), (0.4, 0.4), True, "50.0 against 40.0 ± 0.0, of a single seed"),
        ((0.5, 0.5), (0.5, 0.5), None, "closer than the spread over seeds"),
        # sd of both: 10 / sqrt(2); of the difference: 10.
        ((0.45, 0.55), (0.4, 0.5), None, "closer than the spread over seeds"),
        ((0.4, 0.5), (0.45, 0.55), None, "closer than the spread over seeds"),
        ((0.55, 0.65), (0.44, 0.54), True, "60.0 ± 7.1 against 49.0 ± 7.1"),
    ],
)
def test_ordering(
    better: tuple[float, ...], worse: tuple[float, ...], holds: bool | None, numbers: str
) -> None:
    found = ordering("A is better", Accuracy(better), Accuracy(worse))
    assert found.holds is holds
    assert found.numbers.endswith(numbers)


def test_missing_cells_make_an_ordering_inconclusive() -> None:
    assert ordering("A is better", None, Accuracy((0.5,))).holds is None
    assert ordering("A is better", Accuracy((0.5,)), None).holds is None
    assert cell_of(None) == ABSENT
    assert highest([None]) is None
    assert highest([None, Accuracy((0.1,)), Accuracy((0.3,))]) == Accuracy((0.3,))


def test_numbers_that_are_not_shares() -> None:
    assert number(Accuracy((4.5,))) == "4.50"
    assert number(Accuracy((4.0, 5.0))) == "4.50 ± 0.71"
