"""Accuracy on held-out training images: its value, when it is due, and what it leaves alone."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from simclr_ext.trainer.config import ModelConfig, MonitorConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, Part
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.optional import EvaluationWarning
from simclr_ext.trainer.seeds import Stream, derive_seed, generator
from simclr_ext.trainer.training.held_out import HeldOut
from simclr_ext.trainer.training.state import Training
from tests.trainer.training.test_health import HEALTHY


def config(**monitor: int) -> ResolvedConfig:
    model = ModelConfig(width=4, blocks=(1,), projection_dim=8)
    return TrainConfig(epochs=5, model=model, monitor=MonitorConfig(**monitor)).resolve(1, 8, 8)


def dataset(images: torch.Tensor, labels: torch.Tensor) -> Dataset:
    """Test images have the wrong labels: whoever uses them is found out."""
    train, test = Part.of(images, labels), Part.of(images[:2], 1 - labels[:2])
    return Dataset("tiny", train, test, ("dark", "bright"))


@pytest.fixture
def shades() -> Dataset:
    """Brightness is the class."""
    labels = torch.arange(100) % 2
    images = (100 * labels[:, None, None, None] + torch.randint(50, (100, 1, 8, 8))).to(torch.uint8)
    return dataset(images, labels)


def measured(data: Dataset, run: ResolvedConfig, epochs: int = 5) -> list[Any]:
    """Measure after each epoch; return both accuracies of each."""
    training = Training.start(build_model(run), run)
    held_out = HeldOut(data, run)
    for epoch in range(1, epochs + 1):
        training.epochs.append(dataclasses.replace(HEALTHY, epoch=epoch))
        held_out.measure(training)
    return [(epoch.knn_accuracy, epoch.linear_accuracy) for epoch in training.epochs]


def test_both_probes_find_what_h_shows(shades: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "simclr_ext.trainer.training.held_out.encode",
        lambda encoder, images, side: torch.cat(
            [images.float().mean((2, 3)), 255 - images.float().mean((2, 3))], 1
        ).numpy(),
    )
    assert measured(shades, config(knn_every=1, linear_every=1), epochs=1) == [(1, 1)]


def test_each_is_due_after_its_epochs_and_after_the_last(shades: Dataset) -> None:
    found = measured(shades, config(knn_every=2, linear_every=3))
    assert [knn is not None for knn, _ in found] == [False, True, False, True, True]
    assert [linear is not None for _, linear in found] == [False, False, True, False, True]
    assert measured(shades, config(knn_every=0)) == [(None, None)] * 5


def test_the_linear_probe_is_scikit_learns_on_h() -> None:
    """Classes that h only partly shows, against a pipeline of scikit-learn."""
    random = generator(3)
    labels = torch.randint(2, (90,), generator=random)
    noise = torch.randint(120, (90, 1, 8, 8), generator=random)
    images = (noise + 4 * labels[:, None, None, None]).to(torch.uint8)
    run = config(knn_every=0, linear_every=1)
    ((_, found),) = measured(dataset(images, labels), run, epochs=1)

    rows = torch.randperm(90, generator=generator(derive_seed(run.seed, Stream.HELD_OUT)))
    h, targets = encode(build_model(run).encoder, images[rows], run.side), labels[rows].numpy()
    # Division by the root of the dimension is the same as a smaller C.
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=10 / h.shape[1], max_iter=2000))
    expected = probe.fit(h[18:], targets[18:]).score(h[:18], targets[:18])
    assert 0.5 < expected < 1
    assert found == pytest.approx(expected)


def test_a_probe_that_fails_leaves_the_other(shades: Dataset) -> None:
    one_class = dataset(shades.train.images[:], torch.zeros(100, dtype=torch.int64))
    with pytest.warns(
        EvaluationWarning, match="the linear accuracy of an epoch is left out: .*two"
    ):
        ((knn, linear),) = measured(one_class, config(knn_every=1, linear_every=1), epochs=1)
    assert (knn, linear) == (1, None)


def test_measuring_changes_neither_the_model_nor_random_numbers(shades: Dataset) -> None:
    run = config(knn_every=1, linear_every=1)
    training = Training.start(build_model(run), run)
    training.model.train()
    training.epochs.append(HEALTHY)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()
    HeldOut(shades, run).measure(training)
    assert training.model.training
    assert all(p.grad is None for p in training.model.parameters())
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), states[0])
    for now, then in zip(np.random.get_state(), states[1], strict=True):
        assert np.array_equal(now, then)
