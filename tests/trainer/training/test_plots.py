"""The pictures: they are images, and not empty."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from simclr_ext.trainer.training.plots import plot_loss, plot_pairs
from simclr_ext.trainer.training.state import Epoch
from tests.trainer.helpers import colors, read


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
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
        assert colors(path) > 10
