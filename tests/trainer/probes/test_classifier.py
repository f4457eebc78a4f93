"""Supervised training: its steps against a plain loop, its subsets, its errors."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from simclr_ext.options.errors import DivergedError
from simclr_ext.trainer.config.commands import SgdConfig
from simclr_ext.trainer.data.split import stratified_subset
from simclr_ext.trainer.probes.classifier import (
    predict,
    rank_images,
    train_classifier,
)


def test_steps_follow_the_formula() -> None:
    """Nesterov momentum, the rate of the batch, its cosine, no decay: by hand in one dimension."""
    x, labels = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([0, 1, 1])
    config = SgdConfig(epochs=2, batch_size=64, learning_rate=0.4, momentum=0.9)
    linear = nn.Linear(1, 2, bias=False)
    weight = linear.weight.detach().double()
    velocity = torch.zeros_like(weight)
    for step in range(2):
        weight.requires_grad_()
        loss = F.cross_entropy(x.double() @ weight.T, labels)
        (gradient,) = torch.autograd.grad(loss, weight)
        rate = 0.4 * 64 / 256 * 0.5 * (1 + math.cos(math.pi * step / 2))
        velocity = 0.9 * velocity + gradient
        weight = weight.detach() - rate * (gradient + 0.9 * velocity)
    train_classifier(linear, lambda rows, _: x[rows], labels, config, seed=0)
    assert (linear.weight - weight).abs().max() < 1e-6


def test_a_last_batch_of_one_is_left_out() -> None:
    sizes = []

    def inputs(rows: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        sizes.append(len(rows))
        return torch.zeros(len(rows), 2)

    config = SgdConfig(epochs=1, batch_size=4)
    for count in (9, 10, 1):
        train_classifier(
            nn.Linear(2, 2), inputs, torch.zeros(count, dtype=torch.int64), config, seed=0
        )
    assert sizes == [4, 4, 4, 4, 2, 1]


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    config = SgdConfig(epochs=3, learning_rate=1e30)
    x = torch.full((4, 2), 1e10)
    with pytest.raises(DivergedError, match=r"try a learning rate below 1e\+30"):
        train_classifier(
            nn.Linear(2, 2), lambda rows, _: x[rows], torch.tensor([0, 1, 0, 1]), config, seed=0
        )


def test_images_are_ranked_by_their_logits() -> None:
    classifier = nn.Sequential(nn.Dropout(0.9), nn.Flatten(), nn.Linear(3 * 16, 9))
    images = torch.randint(256, (7, 3, 4, 4), dtype=torch.uint8)
    logits = classifier.eval()(images / 255)
    classifier.train()
    ranking = rank_images(classifier, images, 4, chunk=3)
    assert not classifier.training
    expected = [sorted(range(9), key=lambda c, row=row: -row[c])[:5] for row in logits.tolist()]  # type: ignore[misc]
    assert ranking.tolist() == expected
    assert predict(classifier, images, 4).tolist() == [row[0] for row in expected]


def test_subsets_have_the_share_of_every_class() -> None:
    labels = np.array([0] * 200 + [3] * 40 + [7])
    rows = stratified_subset(labels, 0.1, seed=0)
    assert [int((labels[rows] == label).sum()) for label in (0, 3, 7)] == [20, 4, 1]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert rows.tolist() == stratified_subset(labels, 0.1, seed=0).tolist()
    assert rows.tolist() != stratified_subset(labels, 0.1, seed=1).tolist()
    assert stratified_subset(labels, 1.0, seed=0).tolist() == list(range(241))
