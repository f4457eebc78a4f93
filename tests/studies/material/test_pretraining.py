"""The training that several studies share."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from simclr_ext import NTXentLoss
from simclr_ext.options.errors import DataError
from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.engine import scales
from simclr_ext.studies.engine.scales import SCALES, open_context, recipe
from simclr_ext.studies.engine.study import Cell, Context, Variant, load_study
from simclr_ext.studies.material.pretraining import probe, train_model
from simclr_ext.trainer.data import Dataset, Part, load_data
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.probes.comparison import evaluate
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.views.batches import MemorySource
from tests.studies.helpers import color_context


@pytest.fixture(scope="module")
def context() -> Context:
    return open_context(StudyConfig("temperature"))


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([weight.flatten() for weight in model.parameters()])


def test_the_loss_and_the_source_are_those_that_are_given(context: Context) -> None:
    config, data = context.config, context.data
    usual = weights(train_model(config, data))
    loss = NTXentLoss(config.temperature)
    source = MemorySource(data.train.images[:], config)
    assert torch.equal(weights(train_model(config, data, source, loss)), usual)
    other = NTXentLoss(2 * config.temperature)
    assert not torch.equal(weights(train_model(config, data, loss=other)), usual)

    def still(images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.zeros(len(images), 1, config.side, config.side)

    blind = MemorySource(data.train.images[:], config, still)
    assert not torch.equal(weights(train_model(config, data, blind)), usual)


@pytest.mark.parametrize(
    ("study", "variant"),
    [
        ("augmentations", {"first": "crop", "second": "color"}),
        ("color-strength", {"training": "SimCLR", "distortion": "1/8"}),
        ("h-vs-z", {"task": "rotation"}),
    ],
)
def test_a_batch_of_more_images_than_there_are_is_refused(study: str, variant: Variant) -> None:
    small = color_context(train=15)  # batches of 16
    with pytest.raises(DataError, match="at most the 15 training images, got 16"):
        load_study(study).measure(Cell(variant, seed=0), small)


def test_probes_are_those_of_the_trainers_evaluation(context: Context) -> None:
    config, data = context.config, context.data
    encoder = build_model(config).encoder
    train, test = (encode(encoder, x, config.side) for x in (data.train.images, data.test.images))
    scores = evaluate(train, test, data, seed=0)
    expected = {"linear": scores.linear_all.mean, "knn": scores.knn_all.mean}
    assert probe(encoder, data, config.side) == expected


def test_tiny_is_a_sample_and_always_the_same(context: Context) -> None:
    again = open_context(StudyConfig("tsne"))
    assert torch.equal(again.data.train.images, context.data.train.images)
    assert len(context.data.train.images) == SCALES["tiny"].train
    assert len(context.data.test.labels) == SCALES["tiny"].test
    assert len(np.unique(context.data.train.labels)) == 10


def test_the_sample_of_a_scale_is_one_of_the_unlabeled_images_too(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = load_data("digits", "data", download=False)
    train = digits.train.with_unlabeled(digits.train.images[:].flip(0))
    data = dataclasses.replace(digits, train=train)
    monkeypatch.setattr(scales, "load_data", lambda *_: data)
    tiny, cpu = (open_context(StudyConfig("tsne", scale=scale)).data for scale in ("tiny", "cpu"))
    assert torch.equal(tiny.train.labeled.images, context.data.train.images)
    assert len(tiny.train) == 2 * SCALES["tiny"].train
    assert torch.equal(cpu.train.images, data.train.images)


@pytest.mark.parametrize(("side", "encoder", "size"), [(32, "resnet50", 32), (96, "resnet50", 224)])
def test_the_papers_recipe_depends_on_the_images(side: int, encoder: str, size: int) -> None:
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    data = Dataset("some", Part.of(images), Part.of(images))
    config = recipe("paper", data)
    assert (config.model.encoder, config.side) == (encoder, size)
    assert config.augment.flip_probability == 0.5


def test_cells_differ_in_their_seed_alone(context: Context) -> None:
    first, second = (build_model(dataclasses.replace(context.config, seed=seed)) for seed in (0, 1))
    assert not torch.equal(weights(first), weights(second))
