"""Data sets of Hugging Face, from a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext.options import extras
from simclr_ext.options.errors import DataError, MissingExtraError
from simclr_ext.trainer.config import ImagesConfig
from simclr_ext.trainer.data import absolute_data, open_data

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), dtype=np.uint8)
IMAGES = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


def test_the_package_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"data: hf:mnist needs datasets: pip install"):
        open_data("hf:mnist")


def table(rows: slice, **columns: Any) -> Any:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: make extras")
    images = [Image.fromarray(pixels) for pixels in PIXELS[rows]]
    labels = [row % 2 for row in range(len(images))]
    features = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])}
    values = {"picture": images, "kind": labels}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def test_a_folder_with_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: make extras")
    splits = {"train": table(slice(4)), "validation": table(slice(4, 6))}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "pets"))
    data = open_data(f"hf:{tmp_path}/pets")
    assert (data.name, data.class_names) == ("pets", ("cat", "dog"))
    assert torch.equal(data.train.images[:], IMAGES[:4])
    assert torch.equal(data.test.images[:], IMAGES[4:])
    assert data.train.labels.tolist() == [0, 1, 0, 1]


def test_a_folder_without_splits_or_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(slice(6)).remove_columns("kind").save_to_disk(str(tmp_path / "photos"))
    monkeypatch.chdir(tmp_path)
    assert absolute_data("hf:photos") == f"hf:{tmp_path}/photos"
    data = open_data("hf:photos", images=ImagesConfig(test_share=0))
    assert (len(data.train), data.train.labels.tolist()) == (6, [-1] * 6)
    assert absolute_data("hf:user/name") == "hf:user/name"


def test_what_is_wrong(tmp_path: Path) -> None:
    table(slice(6)).remove_columns("picture").save_to_disk(str(tmp_path / "labels"))
    with pytest.raises(DataError, match="no column of images; there are kind"):
        open_data(f"hf:{tmp_path}/labels")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: cannot be loaded"):
        open_data(f"hf:{tmp_path}/empty")
