"""Evaluation: the probes on cases that can be worked out, and the protocol."""

import numpy as np
import torch

from simclr_ext.trainer.data import Dataset, Part
from simclr_ext.trainer.probes.comparison import draw_labels, evaluate
from simclr_ext.trainer.probes.features import Features


def test_draws_have_so_many_rows_of_every_class() -> None:
    labels = np.array([0] * 9 + [2] * 3 + [5] * 20)
    draws = list(draw_labels(labels, per_class=4, draws=3, seed=0))
    assert len(draws) == 3
    for rows in draws:
        assert len(set(rows.tolist())) == len(rows)
        assert labels[rows].tolist() == [0] * 4 + [2] * 3 + [5] * 4
    assert draws[0].tolist() != draws[1].tolist()
    again = list(draw_labels(labels, per_class=4, draws=3, seed=0))
    assert all(np.array_equal(a, b) for a, b in zip(draws, again, strict=True))


def separable(classes: int = 3, per_class: int = 12) -> tuple[Features, Dataset]:
    """Features far apart by class, and as many labels; test and train are the same."""
    labels = torch.arange(classes).repeat_interleave(per_class)
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    noise = np.random.default_rng(0).normal(size=(len(labels), classes))
    features = np.eye(classes)[labels.numpy()] * 20 + noise
    names = tuple(map(str, range(classes)))
    part = Part.of(images, labels)
    data = Dataset("x", part, part, names)
    return features.astype(np.float32), data


def test_evaluate_tells_good_features_from_bad() -> None:
    good, data = separable()
    scores = evaluate(good, good, data, seed=0)
    assert scores.linear_few.draws == scores.knn_few.draws == (1.0,) * 10
    assert scores.linear_all.draws == scores.knn_all.draws == (1.0,)
    bad = np.random.default_rng(1).normal(size=(2, *good.shape)).astype(np.float32)
    scores = evaluate(bad[0], bad[1], data, seed=0)
    for accuracy in (scores.linear_few, scores.knn_few, scores.linear_all, scores.knn_all):
        assert accuracy.mean < 0.6


def test_evaluate_does_not_depend_on_the_features_scale() -> None:
    features, data = separable()
    features += np.random.default_rng(1).normal(scale=9, size=features.shape).astype(np.float32)
    scale = np.array([1e-3, 1, 1e3], np.float32)
    assert evaluate(features, features, data, 0) == evaluate(
        features * scale + scale, features * scale + scale, data, 0
    )
