"""The first classes and top-k accuracy against plain loops."""

import numpy as np
import pytest
import torch

from simclr_ext.trainer.probes.scores import Accuracy, accuracy, rank


@pytest.mark.parametrize("classes", [1, 2, 5, 6, 40])
def test_top_k_against_plain_loops(classes: int) -> None:
    random = np.random.default_rng(classes)
    scores, labels = random.normal(size=(200, classes)), random.integers(0, classes, 200)
    ranking = rank(torch.from_numpy(scores))
    assert ranking.shape == (200, min(5, classes))
    for first in (1, 5):
        hits = 0
        for row, label in zip(scores, labels, strict=True):
            better = sum(score > row[label] for score in row)
            hits += better < first
        assert accuracy(ranking, labels, first) == hits / 200


def test_ties_are_broken_by_the_order_of_the_classes() -> None:
    assert rank(torch.zeros(1, 300)).tolist() == [[0, 1, 2, 3, 4]]
    assert rank(torch.tensor([[1.0, 2, 2, 0, 2, 1]])).tolist() == [[1, 2, 4, 0, 5]]


def test_a_class_that_is_not_predicted_is_never_a_hit() -> None:
    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf], [torch.nan] * 3])
    ranking = rank(scores)
    assert ranking.tolist() == [[1, -1, -1], [-1, -1, -1]]
    assert accuracy(ranking, np.array([0, 2]), first=5) == 0


def test_accuracy_has_mean_and_sample_deviation() -> None:
    assert Accuracy((0.5, 0.7)).mean == pytest.approx(0.6)
    assert Accuracy((0.5, 0.7)).std == pytest.approx(0.02**0.5)
    assert Accuracy((0.5,)).std == 0
