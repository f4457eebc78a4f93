"""The scale of a study: the recipe that its cells vary, the images, and the repetitions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from simclr_ext.studies.config import ScaleName, StudyConfig
from simclr_ext.studies.engine.study import Context
from simclr_ext.trainer.config import PRESETS, ModelConfig, OptimConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.data import NO_LABEL, Dataset, Part, load_data
from simclr_ext.trainer.seeds import generator


@dataclass(frozen=True)
class Scale:
    """The size of a study.

    Attributes:
        seeds: Repetitions of every cell.
        train: Maximum number of training images, and of unlabeled ones; None: all.
        test: Maximum number of test images; None: all.
    """

    seeds: int
    train: int | None = None
    test: int | None = None


SCALES: dict[ScaleName, Scale] = {
    "tiny": Scale(seeds=2, train=256, test=128),
    "cpu": Scale(seeds=3),
    "paper": Scale(seeds=1),  # the paper reports single runs
}

_TINY = TrainConfig(
    image_size=16,
    epochs=1,
    batch_size=64,
    model=ModelConfig(width=8, blocks=(1, 1), projection_dim=16),
    optim=OptimConfig(warmup_epochs=0),
)
# The preset, changed so that a cell of 10,000 images takes a minute of one core.
_CPU = dataclasses.replace(
    PRESETS["cpu-small"],
    image_size=16,
    epochs=10,
    optim=dataclasses.replace(PRESETS["cpu-small"].optim, warmup_epochs=1),
)
SMALL_IMAGES = 64  # maximum side for the paper's CIFAR-10 recipe; above, ImageNet's


def recipe(scale: ScaleName, data: Dataset) -> ResolvedConfig:
    """Return the configuration that a study's cells vary, resolved for a data set."""
    if scale == "paper":
        small = max(data.sides) <= SMALL_IMAGES
        base = PRESETS["cifar10-r50" if small else "imagenet-r50"]
    else:
        base = {"tiny": _TINY, "cpu": _CPU}[scale]
    return base.resolve(data.channels, *data.sides)


def open_context(config: StudyConfig) -> Context:
    """Return the data and the recipe of a study's cells.

    Raises:
        DataError: The data set cannot be read, or does not fit into memory.
    """
    data = load_data(config.data, config.data_root, config.download)
    scale = SCALES[config.scale]
    test = _sample(data.labeled.test, scale.test)
    data = dataclasses.replace(data, train=_sample(data.train, scale.train), test=test)
    base = recipe(config.scale, data)
    base = dataclasses.replace(base, data=config.data, device=config.device)
    return Context(data, base)


def _sample(part: Part, limit: int | None) -> Part:
    """Return a random sample of the labeled images, and one of the others; always the same."""
    if limit is None:
        return part
    has = part.labels != NO_LABEL
    rows = [_rows(mask.nonzero()[:, 0], limit) for mask in (has, ~has)]
    return part.take(torch.cat(rows))


def _rows(rows: Tensor, limit: int) -> Tensor:
    if limit >= len(rows):
        return rows
    return rows[torch.randperm(len(rows), generator=generator(0))[:limit]]
