"""Transformations predicted from h and g(h): their labels, and the same classifier for both."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.engine.scales import open_context
from simclr_ext.studies.engine.study import Cell, Row
from simclr_ext.studies.material.transforms import gaussian_noise, grayscale, rotate, sobel
from simclr_ext.studies.paper import h_vs_z
from simclr_ext.studies.paper.h_vs_z import STUDY, TASKS, TaskSource
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.model.simclr import SimCLR, build_model
from simclr_ext.trainer.probes.features import Features, Labels
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.views.batches import MemorySource, Source, twice
from tests.studies.helpers import color_context


@pytest.mark.parametrize("name", TASKS)
def test_labels_say_what_was_done_to_the_views(name: str) -> None:
    views = torch.rand(4000, 3, 4, 4, generator=generator(0))
    transformed, labels = TASKS[name].draw(views, generator(1))
    shares = torch.tensor(TASKS[name].shares)
    counts = torch.bincount(labels, minlength=len(shares))
    spread = (len(views) * shares * (1 - shares)).sqrt()
    assert bool(((counts - len(views) * shares).abs() < 4 * spread).all())
    if name == "rotation":
        assert torch.equal(transformed, rotate(views, labels))
        return
    assert torch.equal(transformed[labels == 0], views[labels == 0])
    if name == "noise":
        noise = (transformed - views)[labels == 1]
        expected = gaussian_noise(views, generator(2)) - views
        assert float(noise.std()) == pytest.approx(float(expected.std()), rel=0.02)
    else:
        transform = {"color": grayscale, "sobel": sobel}[name]
        assert torch.equal(transformed[labels == 1], transform(views)[labels == 1])


def test_the_pretraining_sees_the_transformations() -> None:
    context = color_context()
    data, config = context.data, context.config
    batch = twice(data.train.images[:16])
    plain = MemorySource(data.train.images, config).views(batch, 5)
    views = TaskSource(data.train.images, config, TASKS["rotation"]).views(batch, 5)
    turned = torch.stack([rotate(plain, torch.full((32,), turn)) for turn in range(4)])
    found = (turned == views).flatten(2).all(dim=2)  # [4, 32]
    assert bool(found.any(dim=0).all())
    turns = found.int().argmax(dim=0)
    assert len(turns.unique()) == 4
    assert not torch.equal(turns[:16], turns[16:])  # the views of an image on their own
    again = TaskSource(data.train.images, config, TASKS["rotation"]).views(batch, 5)
    assert torch.equal(again, views)


def test_the_color_task_is_for_color_images_only() -> None:
    cell = Cell({"task": "color"}, seed=0)
    rows = STUDY.measure(cell, color_context())
    assert [row["representation"] for row in rows] == ["h", "z"]
    assert all(row["chance"] == 0.8 and 0 <= float(row["accuracy"]) <= 1 for row in rows)
    assert STUDY.measure(cell, open_context(StudyConfig("h-vs-z"))) == []


@pytest.mark.parametrize("name", TASKS)
def test_a_cell_pretrains_with_its_task_and_asks_h_and_its_own_projection(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[SimCLR] = []
    asked: list[Tensor] = []

    def train(config: ResolvedConfig, data: Dataset, source: Source | None) -> SimCLR:
        assert isinstance(source, TaskSource) == TASKS[name].added
        models.append(build_model(config))
        return models[-1]

    def accuracy(
        train: Features, labels: Labels, test: Features, expected: Labels, seed: int
    ) -> float:
        asked.append(torch.from_numpy(test))
        return 0.5

    monkeypatch.setattr(h_vs_z, "train_model", train)
    monkeypatch.setattr(h_vs_z, "_accuracy", accuracy)
    STUDY.measure(Cell({"task": name}, seed=0), color_context())
    h, z = asked
    assert h.shape == z.shape
    with torch.no_grad():
        torch.testing.assert_close(models[0].head(h), z)


def test_h_and_z_have_the_same_dimension() -> None:
    context = color_context()
    model = dataclasses.replace(context.config.model, projection="none", projection_dim=3)
    config = h_vs_z._equal_dimensions(dataclasses.replace(context.config, model=model))
    assert (config.model.projection, config.model.projection_dim) == ("mlp", 16)


def test_the_classifier_predicts_what_a_linear_one_cannot() -> None:
    random = np.random.default_rng(0)
    features = random.uniform(-1, 1, (1500, 2)).astype(np.float32)
    labels = (features.prod(axis=1) > 0).astype(np.int64)  # diagonal quadrants
    train, test = slice(None, 1000), slice(1000, None)

    def accuracy(labels: np.ndarray) -> float:
        return h_vs_z._accuracy(
            features[train], labels[train], features[test], labels[test], seed=0
        )

    assert accuracy(labels) > 0.9
    assert accuracy(random.permutation(labels)) < 0.65


def test_findings_leave_out_what_is_missing() -> None:
    rows: list[Row] = [
        {"task": "sobel", "representation": name, "seed": seed, "accuracy": accuracy, "chance": 0.5}
        for seed in range(2)
        for name, accuracy in (("h", 0.9), ("z", 0.6))
    ]
    findings = STUDY.findings(rows)
    assert [o.holds for o in findings.orderings] == [None, None, None, True]
    assert "90.0 ± 0.0" in findings.table.splitlines()[-1]
    (axes,) = STUDY.draw(rows).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["original or Sobel"]
