"""Small data sets and recipes for the tests of studies."""

import dataclasses
from types import ModuleType

import pytest
import torch

from simclr_ext.studies.engine.scales import recipe
from simclr_ext.studies.engine.study import Context, Row
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset, Part
from simclr_ext.trainer.model.simclr import SimCLR, build_model


def color_context(train: int = 64, test: int = 32) -> Context:
    """Return color images of two classes, each image with its own hue, at the tiny scale."""
    random = torch.Generator().manual_seed(0)

    def images(count: int) -> torch.Tensor:
        hue = torch.rand(count, 3, 1, 1, generator=random)
        noise = 0.1 * torch.rand(count, 3, 10, 10, generator=random)
        return (255 * (0.9 * hue + noise)).byte()

    parts = (Part.of(images(count), torch.arange(count) % 2) for count in (train, test))
    data = Dataset("hues", *parts, class_names=("even", "odd"))
    return Context(data, dataclasses.replace(recipe("tiny", data), batch_size=16))


def trained_configs(monkeypatch: pytest.MonkeyPatch, study: ModuleType) -> list[ResolvedConfig]:
    """Return the list to which a study appends each configuration instead of training with it."""
    configs: list[ResolvedConfig] = []

    def train(config: ResolvedConfig, data: Dataset) -> SimCLR:
        configs.append(config)
        return build_model(config)

    def probe(network: torch.nn.Module, data: Dataset, side: int) -> Row:
        return {"linear": 0.5, "knn": 0.5}

    monkeypatch.setattr(study, "train_model", train)
    monkeypatch.setattr(study, "probe", probe)
    return configs
