"""Maps: their points, and labels only where a class is separate."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.probes.tsne import class_legend, draw_map, plot_tsne, tsne_map
from tests.trainer.helpers import colors


@pytest.mark.parametrize(("count", "classes"), [(4, 2), (90, 23)], ids=["few", "many classes"])
def test_tsne(tmp_path: Path, count: int, classes: int) -> None:
    path = tmp_path / "tsne.png"
    features = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    labels = torch.arange(count) % classes
    plot_tsne(path, features, labels, [f"class {i}" for i in range(classes)], 0, "title")
    assert colors(path) > 10


def test_tsne_draws_a_limited_number_of_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simclr_ext.trainer.probes.tsne.TSNE_POINTS", 10)
    drawn = []

    class Map:
        def __init__(self, **_: object) -> None: ...

        def fit_transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
            drawn.append(len(features))
            return features[:, :2]

    monkeypatch.setattr("simclr_ext.trainer.probes.tsne.TSNE", Map)
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    plot_tsne(
        tmp_path / "tsne.png", features, torch.zeros(30, dtype=torch.int64), ["a"], 0, "title"
    )
    assert drawn == [10]


def test_images_without_labels_are_drawn_without_a_legend(tmp_path: Path) -> None:
    path = tmp_path / "tsne.png"
    features = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    plot_tsne(path, features, torch.full((20,), -1), ["cat", "dog"], 0, "title")
    assert colors(path) > 10


def test_only_classes_among_their_own_points_are_named() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(300, 2)).astype(np.float32)
    points[:100] += 20  # a separate cluster; the other two classes overlap
    axes = Figure().subplots()
    draw_map(axes, points, np.arange(300) // 100, ["apart", "mixed", "mixed too"])
    assert [text.get_text() for text in axes.texts] == ["apart"]


def test_a_name_is_no_formula_and_is_in_the_legend_whatever_it_begins_with() -> None:
    figure = Figure()
    points = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    names = ["$\\frac$", "_hidden", "5 $"]
    drawn = draw_map(figure.subplots(), points, np.arange(30) // 10, names)
    class_legend(figure, drawn)
    figure.savefig(io.BytesIO())
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3
    assert [text.get_text().replace("\\$", "$") for text in legend.get_texts()] == names


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((50, 4)), "got 1 of 50"),
        (np.repeat(np.eye(2, 4), 20, axis=0), "got 2 of 40"),
        (np.eye(2), "got 2 of 2"),
        (np.array([[1.0, np.nan], [0, 1], [2, 3]]), "finite features"),
    ],
    ids=["equal", "two of many", "two", "NaN"],
)
def test_features_without_a_map_are_an_error(features: NDArray[np.float64], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tsne_map(features.astype(np.float32), seed=0)


def test_three_distinct_points_are_enough() -> None:
    points, _ = tsne_map(np.repeat(np.eye(3, dtype=np.float32), 9, axis=0), seed=0)
    assert np.isfinite(points).all()
