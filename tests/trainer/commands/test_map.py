"""The map of the pages command: which images are on it, their neighbors, and their clusters."""

import dataclasses
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.api import draw_pages
from simclr_ext.trainer.commands.map import MapPart, clusters, write_map
from simclr_ext.trainer.config.commands import PagesConfig
from simclr_ext.trainer.data import Part


def embedded(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script id="data" type="application/json">(.*)</script>', text)
    data: dict[str, Any] = json.loads(found)
    return data


def groups(count: int, size: int) -> NDArray[np.float32]:
    """Return `count` groups of `size` features each, in separate directions, [n, count]."""
    noise = np.random.default_rng(0).normal(0, 0.05, (count * size, count))
    return (np.repeat(np.eye(count) * 3, size, axis=0) + noise).astype(np.float32)


@pytest.fixture
def parts() -> list[MapPart]:
    features = groups(3, 10)
    images = torch.zeros(30, 1, 8, 8, dtype=torch.uint8)
    labels = torch.arange(30) // 10
    return [
        MapPart("train", Part.of(images[:20], labels[:20]), features[:20]),
        MapPart("test", Part.of(images[20:], labels[20:]), features[20:]),
    ]


def test_all_images_are_on_the_map(parts: list[MapPart], tmp_path: Path) -> None:
    path = tmp_path / "map.html"
    assert write_map(path, "groups", parts, ["x", "y", "z"], neighbors=4, most=30, seed=0) == 0
    data = embedded(path)
    names = [*(f"train {row}" for row in range(20)), *(f"test {row}" for row in range(10))]
    assert data["names"] == names
    assert data["classes"] == [row // 10 for row in range(30)]
    assert data["classNames"] == ["x", "y", "z"]
    assert data["labels"] == 3
    for row, nearest in enumerate(data["neighbors"]):
        assert len(set(nearest)) == 4
        assert row not in nearest
        assert {other // 10 for other in nearest} == {row // 10}
    assert "All 30 images" in path.read_text(encoding="utf-8")


def test_a_random_part_is_shown_of_too_many(parts: list[MapPart], tmp_path: Path) -> None:
    path = tmp_path / "map.html"
    assert write_map(path, "groups", parts, ["x", "y", "z"], neighbors=4, most=12, seed=0) == 18
    data = embedded(path)
    names = [name.split() for name in data["names"]]
    places = [int(row) + 20 * (part == "test") for part, row in names]
    assert len(set(places)) == 12
    assert places == sorted(places)
    assert data["classes"] == [place // 10 for place in places]
    assert all(0 <= other < 12 for nearest in data["neighbors"] for other in nearest)
    assert "12 of 30 images, at random" in path.read_text(encoding="utf-8")


def test_without_labels_clusters_are_shown(parts: list[MapPart], tmp_path: Path) -> None:
    path = tmp_path / "map.html"
    parts = [dataclasses.replace(part, part=part.part.without_labels()) for part in parts]
    write_map(path, "groups", parts, (), neighbors=4, most=30, seed=0)
    data = embedded(path)
    assert data["labels"] == 0
    assert data["classNames"] == [f"cluster {number}" for number in range(1, 11)]
    for cluster in range(10):
        members = [row for row in range(30) if data["classes"][row] == cluster]
        assert len({row // 10 for row in members}) == 1  # no cluster has images of two groups


def test_images_without_a_label_are_a_class_of_their_own(
    parts: list[MapPart], tmp_path: Path
) -> None:
    path = tmp_path / "map.html"
    some = Part.of(parts[1].part.images, torch.tensor([-1] * 5 + [2] * 5))
    parts[1] = dataclasses.replace(parts[1], part=some)
    write_map(path, "groups", parts, ["x", "y", "z"], neighbors=4, most=30, seed=0)
    data = embedded(path)
    assert data["classNames"] == ["x", "y", "z", "no label"]
    assert data["labels"] == 3
    assert data["classes"][20:] == [3] * 5 + [2] * 5


def test_clusters_are_directions_and_the_largest_is_first() -> None:
    features = np.concatenate([np.eye(3)[[0] * 5], np.eye(3)[[2] * 9] * 7, np.eye(3)[[1] * 2]])
    assert clusters(features.astype(np.float32), seed=0).tolist() == [1] * 5 + [0] * 9 + [2] * 2


def test_command_writes_the_map(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint()
    result = draw_pages(PagesConfig(str(path), neighbors=3, map_images=20))
    assert [file.name for file in result.files] == ["neighbors.html", "tsne.png", "map.html"]
    assert result.left_out == 13
    assert "map.html leaves out 13 images, see --map_images" in str(result)
    data = embedded(result.files[-1])
    assert len(data["names"]) == 20
    assert all(re.fullmatch(r"train \d+|test \d", name) for name in data["names"])
    for name, label in zip(data["names"], data["classes"], strict=True):
        assert int(name.split()[1]) % 3 == label


def test_no_map(write_checkpoint: Callable[..., Path]) -> None:
    result = draw_pages(PagesConfig(str(write_checkpoint()), map_images=0))
    assert [file.name for file in result.files] == ["neighbors.html", "tsne.png"]
    with pytest.raises(ConfigError, match="map_images must be at least 0, got -1"):
        PagesConfig("run", map_images=-1)


def test_degenerate_representations_have_no_map(
    write_checkpoint: Callable[..., Path], write_npz: Callable[..., Path]
) -> None:
    path = write_checkpoint()
    blank = {part: np.zeros((9, 10, 12, 3), np.uint8) for part in ("train_images", "test_images")}
    data = write_npz("blank", **blank, train_labels=np.arange(9) % 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = draw_pages(PagesConfig(str(path), data=str(data)))
    assert [file.name for file in result.files] == ["neighbors.html"]
    messages = [str(warning.message) for warning in caught]
    assert any(re.match(r"map.html is left out: t-SNE needs 3 images", text) for text in messages)
