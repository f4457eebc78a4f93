"""Pairs of transformations in their order, and single ones on the diagonal."""

import pytest
import torch

from simclr_ext.studies.engine.study import Row
from simclr_ext.studies.material.transforms import Transform
from simclr_ext.studies.paper.augmentations import STUDY, _targeted
from simclr_ext.trainer.seeds import generator

TRANSFORMS: dict[str, Transform] = {
    "double": lambda views, _: 2 * views,
    "add": lambda views, _: views + 10,
}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("double", "add", 12.0), ("add", "double", 22.0), ("double", "double", 2.0)],
)
def test_the_first_comes_first_and_single_ones_come_once(
    first: str, second: str, expected: float
) -> None:
    transform = _targeted({"first": first, "second": second}, TRANSFORMS)
    assert float(transform(torch.ones(()), generator(0))) == expected


def test_pairs_are_compared_in_the_orders_that_both_have() -> None:
    accuracies = {
        ("crop", "color"): 0.5,  # the other order failed
        ("crop", "rotate"): 0.4, ("rotate", "crop"): 0.9,
        ("color", "rotate"): 0.3, ("rotate", "color"): 0.3,
        ("crop", "crop"): 0.45,
    }  # fmt: skip
    rows: list[Row] = [
        {"first": first, "second": second, "seed": 0, "linear": linear}
        for (first, second), linear in accuracies.items()
    ]
    pair, single = STUDY.findings(rows).orderings
    assert (pair.holds, pair.numbers) == (True, "50.0 against 40.0, of a single seed")
    assert (single.holds, single.numbers) == (True, "50.0 against 45.0, of a single seed")
