"""The state of a training: which epoch is the best."""

import dataclasses

import pytest

from simclr_ext.trainer.config import ModelConfig, TrainConfig
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.training.state import Training
from tests.trainer.training.test_health import HEALTHY


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([0.0], True),
        ([None], False),
        ([0.5, None], False),
        ([None, 0.0], True),
        ([None, 0.5, None, 0.5], False),
        ([0.25, None, 0.5], True),
    ],
    ids=["first", "failed", "not measured", "failed before", "as good", "better"],
)
def test_the_best_is_measured_and_better(accuracies: list[float | None], best: bool) -> None:
    model = ModelConfig(width=4, blocks=(1,), projection_dim=8)
    config = TrainConfig(model=model).resolve(1, 8, 8)
    training = Training.start(build_model(config), config)
    for accuracy in accuracies:
        training.epochs.append(HEALTHY)
        if accuracy is not None:
            training.measure(knn_accuracy=accuracy)
    assert training.is_best() == best
    assert [epoch.knn_accuracy for epoch in training.epochs] == accuracies
    assert dataclasses.replace(training.epochs[-1], knn_accuracy=None) == HEALTHY
