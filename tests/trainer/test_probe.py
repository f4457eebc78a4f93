"""Linear probes on cases that can be worked out."""

import numpy as np
import pytest
import torch
from torch import nn

from simclr_ext.trainer.augment import Augment
from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.config.evaluate import SgdConfig
from simclr_ext.trainer.features import Features, Labels
from simclr_ext.trainer.probe import augmented_probe, cached_probe, lbfgs_probe
from simclr_ext.trainer.supervised import crop_and_flip

SGD = SgdConfig(epochs=10, batch_size=32, learning_rate=0.5)


def blobs(count: int, noise: float, seed: int) -> tuple[Features, Labels]:
    """Three classes around the axes, with more dimensions of noise alone."""
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
    # Of unequal classes, a C of 1e-9 predicts the commonest alone.
    rows = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels > 0)[:20]])
    train, labels = train[rows], labels[rows]
    ranking, chosen = lbfgs_probe(train, labels, test, [1e-9], seed=0)
    assert (chosen, set(ranking[:, 0].tolist())) == (1e-9, {0})
    ranking, chosen = lbfgs_probe(train, labels, test, [1e-9, 1.0], seed=0)
    assert chosen == 1.0
    assert np.mean(ranking[:, 0] == expected) > 0.95


def test_a_class_of_one_image_can_be_held_out() -> None:
    train, labels = blobs(30, 0.3, 0)
    labels[-1] = 7
    _, chosen = lbfgs_probe(train, labels, train, [0.1, 10.0], seed=0)
    assert chosen in (0.1, 10.0)


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


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_only_crops_and_flips_are_left(flip: float) -> None:
    config = AugmentConfig(flip_probability=flip, crop_area=(0.3, 0.9), blur_probability=0.5)
    augment = crop_and_flip(config, 8)
    assert isinstance(augment, Augment)
    assert (augment.config.crop_area, augment.config.flip_probability) == ((0.3, 0.9), flip)
    images = torch.full((50, 3, 8, 8), 100, dtype=torch.uint8)
    views = augment(images, torch.Generator().manual_seed(0))
    assert (views - 100 / 255).abs().max() < 1e-6
