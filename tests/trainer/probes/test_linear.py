"""Linear probes on cases that can be worked out."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from simclr_ext.options.errors import DataError, DivergedError
from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.config.commands import SgdConfig
from simclr_ext.trainer.probes.features import Features, Labels
from simclr_ext.trainer.probes.linear import (
    augmented_probe,
    cached_probe,
    lbfgs_probe,
    linear_probe,
    rank_linearly,
    standardize,
)
from simclr_ext.trainer.views.augment import crop_and_flip

SGD = SgdConfig(epochs=10, batch_size=32, learning_rate=0.5)


def blobs(count: int, noise: float, seed: int) -> tuple[Features, Labels]:
    """Three classes around the axes, and further dimensions of noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    features = random.normal(scale=noise, size=(count, 10))
    features[np.arange(count), labels] += 2
    return features.astype(np.float32), labels


def test_cached_probe_separates_what_is_separable() -> None:
    (train, labels), (test, expected) = blobs(90, 0.3, 0), blobs(60, 0.3, 1)
    ranking = cached_probe(train, labels, test, 3, SGD, seed=0)
    assert np.mean(ranking[:, 0] == expected) > 0.95
    assert np.array_equal(np.sort(ranking, axis=1), np.tile([0, 1, 2], (60, 1)))
    assert np.array_equal(ranking, cached_probe(train, labels, test, 3, SGD, seed=0))


def test_lbfgs_probe_chooses_the_strength_on_held_out_images() -> None:
    (train, labels), (test, expected) = blobs(90, 0.3, 0), blobs(60, 0.3, 1)
    # With unequal classes, a C of 1e-9 predicts only the most frequent one.
    rows = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels > 0)[:20]])
    train, labels = train[rows], labels[rows]
    ranking, chosen = lbfgs_probe(train, labels, test, [1e-9], seed=0)
    assert (chosen, set(ranking[:, 0].tolist())) == (1e-9, {0})
    ranking, chosen = lbfgs_probe(train, labels, test, [1e-9, 1.0], seed=0)
    assert chosen == 1.0
    assert np.mean(ranking[:, 0] == expected) > 0.95


@pytest.mark.parametrize("sizes", [[2] * 10, [2, 2], [9, 1], [3] * 40, [50, 2, 1]], ids=str)
def test_a_strength_is_chosen_with_few_images_of_a_class(sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    train = np.eye(len(sizes), dtype=np.float32)[labels]
    for seed in range(5):  # a class of one image is held out by none
        _, chosen = lbfgs_probe(train, labels, train, [0.1, 10.0], seed)
        assert chosen in (0.1, 10.0)


def test_no_strength_is_chosen_with_one_image_of_each_class() -> None:
    train, labels = np.eye(4, dtype=np.float32), np.arange(4)
    assert lbfgs_probe(train, labels, train, [10.0], seed=0)[1] == 10.0
    with pytest.raises(DataError, match=r"c must be one number .*, got 0.1, 10"):
        lbfgs_probe(train, labels, train, [0.1, 10.0], seed=0)


class Means(nn.Module):
    """h is the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) * self.scale


def test_augmented_probe_learns_and_leaves_the_encoder_alone() -> None:
    labels = np.arange(60) % 3
    images = torch.zeros(60, 3, 8, 8, dtype=torch.uint8)
    images[torch.arange(60), torch.from_numpy(labels)] = 200
    encoder = Means()
    augment = crop_and_flip(AugmentConfig(flip_probability=0.5), 8)
    ranking = augmented_probe(
        encoder, 3, augment, images, labels, images, 3, SgdConfig(20, 16, 5.0), seed=0
    )
    assert np.mean(ranking[:, 0] == labels) == 1
    assert encoder.scale.grad is None


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


def test_standardize_sums_up_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    train = random.normal(5, 3, (50, 4)).astype(np.float32)
    test = random.normal(5, 3, (6, 4)).astype(np.float32)
    monkeypatch.setattr("simclr_ext.trainer.probes.linear._ROWS", 7)
    before = train.copy()
    mean, std = train.astype(np.float64).mean(axis=0), train.astype(np.float64).std(axis=0)
    for found, given in zip(standardize(train, test), (train, test), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, (given - mean) / std / 2, rtol=1e-5, atol=1e-6)
    assert np.array_equal(train, before)


def test_features_that_no_probe_can_use_are_errors() -> None:
    features = np.ones((3, 2), np.float32)
    with pytest.raises(DataError, match="two classes or more, got one"):
        linear_probe(features, np.array([4, 4, 4]), features)
    with pytest.raises(DivergedError, match="not finite"):
        standardize(features, np.full((3, 2), np.inf, np.float32))
