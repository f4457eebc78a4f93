"""Warnings about problems of an epoch."""

import dataclasses
import math

import pytest

from simclr_ext.trainer.training.health import problems
from simclr_ext.trainer.training.state import Epoch

HEALTHY = Epoch(
    epoch=3, step=30, loss=3.0, contrastive_accuracy=0.6, entropy=2.0, positive_similarity=0.8,
    negative_similarity=0.0, embedding_std=0.9, effective_rank=20.0, learning_rate=0.1,
    images_per_second=100.0, seconds=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, []),
        ({"loss": math.log(2 * 64 - 1)}, ["chance"]),
        ({"embedding_std": 0.05}, ["collapse"]),
        ({"effective_rank": 1.5, "loss": 5.0}, ["chance", "collapse"]),
    ],
    ids=["healthy", "chance", "point", "line"],
)
def test_problems(changes: dict[str, float], names: list[str]) -> None:
    found = problems(dataclasses.replace(HEALTHY, **changes), batch_size=64)  # type: ignore[arg-type]
    assert list(found) == names
    if "chance" in found:
        assert "ln(2N - 1) = 4.844" in found["chance"]
