"""Warnings about problems of an epoch."""

import dataclasses
import math
import warnings

import pytest

from simclr_ext.trainer.training.health import problems, warn_of_new_problems
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


@pytest.mark.parametrize(
    ("losses", "warmup", "expected"),
    [
        ([9, 9, 9, 3, 9, 9], 0, [2, 5]),
        ([9, 9, 9, 3, 9, 9], 0.5, [2, 5]),
        ([9, 9, 9, 9, 9, 3, 9], 3, [4, 7]),
        ([9, 9, 9, 9, 9], 2.5, [3]),
        ([9, 9, 3, 3], 2, []),
        ([9], 0, []),
    ],
    ids=["no warmup", "half an epoch", "three epochs", "two and a half", "cured", "one epoch"],
)
def test_a_problem_is_told_once_after_the_warmup_and_when_it_returns(
    losses: list[float], warmup: float, expected: list[int]
) -> None:
    """A loss of 9 is beyond its chance level."""
    epochs: list[Epoch] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number, loss in enumerate(losses, start=1):
            epochs.append(dataclasses.replace(HEALTHY, epoch=number, loss=loss))
            warn_of_new_problems(epochs, 64, warmup)
    told = [str(warning.message).partition(":")[0] for warning in caught]
    assert told == [f"epoch {number}" for number in expected]
