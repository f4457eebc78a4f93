"""Evaluation: the probes on cases that can be worked out, and the protocol."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from simclr_ext.trainer.data import ImageData
from simclr_ext.trainer.evaluate import (
    Accuracy,
    Features,
    draw_labels,
    evaluate,
    linear_probe,
    rank_linearly,
    standardise,
)


def test_linear_probe_learns_what_is_linear_and_not_what_is_not() -> None:
    random = np.random.default_rng(0)
    train = random.normal(size=(200, 2)).astype(np.float32)
    test = random.normal(size=(400, 2)).astype(np.float32)
    for rule, low, high in [
        (lambda x: x.sum(axis=1) > 0, 0.95, 1.0),
        (lambda x: x.prod(axis=1) > 0, 0.3, 0.7),
    ]:
        predicted = linear_probe(train, rule(train).astype(np.int64), test)
        assert low <= np.mean(predicted == rule(test)) <= high


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


def separable(classes: int = 3, per_class: int = 12) -> tuple[Features, ImageData]:
    """Features far apart by class, and as many labels; test and train are the same."""
    labels = torch.arange(classes).repeat_interleave(per_class)
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    noise = np.random.default_rng(0).normal(size=(len(labels), classes))
    features = np.eye(classes)[labels.numpy()] * 20 + noise
    names = tuple(map(str, range(classes)))
    data = ImageData("x", images, labels, images, labels, names)
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


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_linear_ranking_has_the_order_of_the_probabilities(classes: int) -> None:
    random = np.random.default_rng(0)
    labels = 3 * (np.arange(80) % classes)  # no row has the classes between
    train = random.normal(size=(80, 9)).astype(np.float32)
    train[np.arange(80), labels // 3] += 1
    test = random.normal(size=(50, 9)).astype(np.float32)
    ranking = rank_linearly(train, labels, test, c=0.1)
    probe = LogisticRegression(C=0.1, max_iter=2000).fit(train, labels)
    expected = 3 * np.argsort(-probe.predict_proba(test), axis=1)[:, :5]
    assert np.array_equal(ranking, expected)
    assert np.array_equal(linear_probe(train, labels, test, c=0.1), probe.predict(test))


def test_standardise_sums_up_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    train = random.normal(5, 3, (50, 4)).astype(np.float32)
    test = random.normal(5, 3, (6, 4)).astype(np.float32)
    monkeypatch.setattr("simclr_ext.trainer.evaluate._ROWS", 7)
    before = train.copy()
    mean, std = train.astype(np.float64).mean(axis=0), train.astype(np.float64).std(axis=0)
    for found, given in zip(standardise(train, test), (train, test), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, (given - mean) / std / 2, rtol=1e-5, atol=1e-6)
    assert np.array_equal(train, before)


def test_accuracy_has_mean_and_sample_deviation() -> None:
    assert Accuracy((0.5, 0.7)).mean == pytest.approx(0.6)
    assert Accuracy((0.5, 0.7)).std == pytest.approx(0.02**0.5)
    assert Accuracy((0.5,)).std == 0
