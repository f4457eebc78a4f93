"""Pairs of transformations in their order, and single ones on the diagonal."""

import pytest
import torch

from simclr_ext.studies.augmentations import _targeted
from simclr_ext.studies.transforms import Transform
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
