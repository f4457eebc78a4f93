"""The pictures: they are images with something drawn in them."""

from dataclasses import fields
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simclr_ext.trainer.plots import draw_map, plot_loss, plot_pairs, plot_tsne
from simclr_ext.trainer.pretrain import Epoch


def colours(path: Path) -> int:
    """Read a PNG and count the colours of its pixels."""
    return len(np.unique(read(path).reshape(-1, 3), axis=0))


def read(path: Path) -> NDArray[np.float32]:
    """Return the pixels of a PNG, [H, W, 3]."""
    return matplotlib.image.imread(path)[..., :3]


@pytest.mark.parametrize("channels", [1, 3])
def test_pairs(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "pairs.png"
    images = torch.zeros(4, channels, 5, 6, dtype=torch.uint8)
    plot_pairs(path, images, torch.zeros(4, channels, 8, 8), torch.zeros(4, channels, 8, 8))
    blank = read(path)
    first = torch.zeros(4, channels, 8, 8)
    first[2] = 1
    plot_pairs(path, images, first, torch.zeros(4, channels, 8, 8))
    rows, columns = (read(path) != blank).any(axis=2).nonzero()
    # The third image's first view, in the middle row and right of the middle.
    height, width = blank.shape[:2]
    assert height * 0.3 < rows.min() < rows.max() < height * 0.7
    assert width / 2 < columns.min() < columns.max() < width * 0.8
    assert len(rows) > 1000


def test_loss_of_one_epoch_and_of_many(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    blank = dict.fromkeys((field.name for field in fields(Epoch)), 0.0)
    epochs = [Epoch(**{**blank, "epoch": i, "loss": 5.0 / i}) for i in range(1, 9)]
    for shown in (epochs[:1], epochs):
        plot_loss(path, shown, batch_size=64)
        assert colours(path) > 10


@pytest.mark.parametrize(("count", "classes"), [(4, 2), (90, 23)], ids=["few", "many classes"])
def test_tsne(tmp_path: Path, count: int, classes: int) -> None:
    path = tmp_path / "tsne.png"
    features = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    labels = torch.arange(count) % classes
    plot_tsne(path, features, labels, [f"class {i}" for i in range(classes)], seed=0)
    assert colours(path) > 10


def test_tsne_draws_no_more_than_it_can_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simclr_ext.trainer.plots._TSNE_POINTS", 10)
    drawn = []

    class Map:
        def __init__(self, **_: object) -> None: ...

        def fit_transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
            drawn.append(len(features))
            return features[:, :2]

    monkeypatch.setattr("simclr_ext.trainer.plots.TSNE", Map)
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    plot_tsne(tmp_path / "tsne.png", features, torch.zeros(30, dtype=torch.int64), ["a"], seed=0)
    assert drawn == [10]


def test_only_classes_among_their_own_points_are_named() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(300, 2)).astype(np.float32)
    points[:100] += 20  # a cluster of its own; the other two classes share a place
    axes = Figure().subplots()
    draw_map(axes, points, np.arange(300) // 100, ["apart", "mixed", "mixed too"])
    assert [text.get_text() for text in axes.texts] == ["apart"]
