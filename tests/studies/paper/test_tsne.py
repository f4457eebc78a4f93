"""Maps of h and z: every test image once in each, and accuracies of both."""

import numpy as np
import pytest
import torch
from torch import Tensor

from simclr_ext.studies.engine.study import Cell, Row
from simclr_ext.studies.paper import tsne
from simclr_ext.studies.paper.tsne import STUDY
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.probes.features import Features, Labels
from tests.studies.helpers import color_context


def test_every_test_image_is_in_both_maps() -> None:
    context = color_context(test=25)
    rows = STUDY.measure(Cell({}, seed=1), context)
    for name in ("h", "z"):
        own = [row for row in rows if row["representation"] == name]
        accuracies, points = own[0], own[1:]
        assert set(accuracies) == {"representation", "linear", "knn"}
        assert np.bincount([int(row["label"]) for row in points]).tolist() == [13, 12]
        assert {(row["label"], row["class"]) for row in points} == {(0, "even"), (1, "odd")}
        assert len({(row["x"], row["y"]) for row in points}) == 25


def test_the_maps_are_of_h_and_of_its_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    context = color_context()
    model = build_model(context.config)
    mapped: list[Tensor] = []

    def record(features: Features, seed: int) -> tuple[Features, Labels]:
        mapped.append(torch.from_numpy(features))
        return features[:, :2], np.arange(len(features))

    monkeypatch.setattr(tsne, "train_model", lambda config, data: model)
    monkeypatch.setattr(tsne, "tsne_map", record)
    STUDY.measure(Cell({}, seed=0), context)
    h, z = mapped
    assert h.shape[1] == model.encoder.dim
    with torch.no_grad():
        torch.testing.assert_close(model.head(h), z)


def test_one_seed_is_drawn_and_all_are_compared() -> None:
    rows: list[Row] = []
    for seed in (3, 4):
        for name, accuracy in (("h", 0.9), ("z", 0.6)):
            own: Row = {"seed": seed, "representation": name}
            rows.append({**own, "linear": accuracy, "knn": 1.4 - accuracy + seed / 100})
            rows += [
                {**own, "x": float(x), "y": x**2 + 1.0 * seed, "label": 2 * x, "class": f"c{x}"}
                for x in range(3)
            ]
    findings = STUDY.findings(rows)
    assert [o.holds for o in findings.orderings] == [True, False]
    figure = STUDY.draw(rows)
    for axes, knn in zip(figure.axes, ("53.0", "83.0"), strict=True):
        points = np.concatenate([dots.get_offsets() for dots in axes.collections])
        assert points.tolist() == [[0, 3], [1, 4], [2, 7]]  # of seed 3
        assert axes.get_title().endswith(f"3 test images; k-NN {knn} %")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["c0", "c1", "c2"]
