"""The neighbors command: images that were not in the data set, and those most like them."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_ext.cli import main
from simclr_ext.options.errors import DataError
from simclr_ext.trainer.api import find_neighbors
from simclr_ext.trainer.config import NeighborsConfig


@pytest.fixture
def checkpoint(write_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    path = write_checkpoint()
    with np.load(tmp_path / "tiny.npz") as file:
        images = file["train_images"]
    (tmp_path / "new").mkdir()
    for row in (7, 3):
        Image.fromarray(images[row]).save(tmp_path / "new" / f"{row}.png")
    return path


def test_the_same_image_is_the_nearest(checkpoint: Path, tmp_path: Path) -> None:
    queries = str(tmp_path / "new")
    result = find_neighbors(NeighborsConfig(str(checkpoint), queries=queries, neighbors=3))
    assert [found[0] for found in result.ids] == ["3", "7"]
    assert result.similarities[:, 0].tolist() == pytest.approx([1, 1])
    table, page = result.files
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["query"], row["rank"]) for row in rows[:4]] == [
        ("3.png", "1"), ("3.png", "2"), ("3.png", "3"), ("7.png", "1"),
    ]  # fmt: skip
    assert (rows[0]["neighbor"], rows[0]["class"], rows[0]["similarity"]) == ("3", "ant", "1.0000")
    assert page.read_text(encoding="utf-8").count("<img") == 2 * 4


def test_queries_are_read_whole_or_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    (new / "broken.png").write_bytes(b"no image")
    options = NeighborsConfig(str(checkpoint), queries=str(new), on_broken="skip")
    assert len(find_neighbors(options).ids) == 2
    assert "left out: " in capsys.readouterr().err
    for part, name in (("train", "3.png"), ("test", "7.png")):
        (new / part).mkdir()
        (new / name).rename(new / part / name)
    with pytest.raises(DataError, match="new has training and test images: name one of"):
        find_neighbors(options)


def test_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(tmp_path / "new" / "7.png")
    assert main(["neighbors", str(checkpoint), "--queries", image, "--pictures", "0"]) == 0
    assert capsys.readouterr().out.endswith("neighbors-7/neighbors.html\n")
    assert main(["neighbors", str(checkpoint), "--queries", str(tmp_path / "gone")]) == 2
    assert "there is no such folder or file" in capsys.readouterr().err
    assert main(["neighbors", str(checkpoint)]) == 2
    assert "queries" in capsys.readouterr().err
