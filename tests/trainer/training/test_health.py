"""Warnings about problems of an epoch, and k-NN of held-out training images."""

import dataclasses
import math

import pytest
import torch

from simclr_ext.trainer.config import ModelConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, Part
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.training.health import Knn, problems
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


def test_knn_leaves_the_test_images_out() -> None:
    """Brightness is the class: any encoder that sees it finds it, whatever the test images are."""
    labels = torch.arange(100) % 2
    images = (100 * labels[:, None, None, None] + torch.randint(50, (100, 1, 8, 8))).to(torch.uint8)
    train, test = Part.of(images, labels), Part.of(images[:2], 1 - labels[:2])
    data = Dataset("tiny", train, test, ("dark", "bright"))
    config = TrainConfig(model=ModelConfig(width=4, blocks=(1,))).resolve(1, 8, 8)
    model = SimCLR(config.model, 1)
    model.encoder.forward = lambda x: torch.cat([x.mean((2, 3)), 1 - x.mean((2, 3))], 1)  # type: ignore[method-assign]
    knn = Knn(data, config.side, config.seed)
    assert knn(model) == 1
    assert knn(model) == 1
