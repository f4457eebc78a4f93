"""Folders of images: in memory if they have one size, otherwise decoded on demand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.data import ImageFiles, dataset, load_data, open_data
from tests.trainer.helpers import write_folder


@pytest.mark.parametrize("test", ["test", "val"])
def test_images_of_one_size_are_decoded_once(tmp_path: Path, test: str) -> None:
    write_folder(tmp_path / "pets", [(7, 5)], per_class=2, test=test)
    data = open_data(str(tmp_path / "pets"))
    assert isinstance(data.train_images, torch.Tensor)
    assert (data.name, data.class_names) == ("pets", ("cat", "dog"))
    assert data.train_images.shape == (4, 3, 5, 7)
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0, 0, 1, 1]
    with Image.open(tmp_path / "pets" / test / "dog" / "1.png") as image:
        assert torch.equal(data.test_images[3], torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_images_of_many_sizes_stay_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", [(7, 5), (16, 32)], per_class=2)
    data = open_data(str(tmp_path / "pets"))
    assert isinstance(data.train_images, ImageFiles)
    assert (data.channels, len(data.train_images), data.sides) == (3, 4, (224, 224))
    memory = load_data(str(tmp_path / "pets"), side=14)
    assert memory.train_images.shape == (4, 3, 14, 14)
    # The central 14 x 14 pixels of the 16 x 32 image, not resized: 8/7 of 14 is 16.
    image = data.train_images.open(1)
    expected = np.array(image.crop((1, 9, 15, 23)))
    assert torch.equal(memory.train_images[1], torch.from_numpy(expected).permute(2, 0, 1))
    assert torch.equal(data.at(14).test_images[:], memory.test_images[:])
    with pytest.raises(ValueError, match="must be chosen first"):
        data.test_images[:]
    assert data.train_labels.tolist() == memory.train_labels.tolist() == [0, 0, 1, 1]


def test_too_many_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_MEMORY_LIMIT", 1000)
    write_folder(tmp_path / "pets", [(8, 8)], per_class=4)
    data = open_data(str(tmp_path / "pets"))
    assert isinstance(data.train_images, ImageFiles)
    with pytest.raises(DataError, match="pets: 16 images of 8 x 8 take"):
        data.in_memory()
    assert data.sides == (8, 8)  # their own
    assert data.at(2).too_large is None


def test_large_images_of_one_size_are_read_at_224(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like images of different sizes; `image_size` null is also at most 224."""
    write_folder(tmp_path / "pets", [(300, 280)], per_class=2)
    data = open_data(str(tmp_path / "pets"))
    assert (data.sides, TrainConfig().resolve(3, *data.sides).side) == ((280, 300), 224)
    monkeypatch.setattr(dataset, "_MEMORY_LIMIT", 3 * 224 * 224 * 8)
    assert open_data(str(tmp_path / "pets")).sides == (224, 224)
    assert load_data(str(tmp_path / "pets")).train_images.shape == (4, 3, 224, 224)


def test_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    (root / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"expected the folders train/ and test/ \(or val/\)"):
        open_data(str(root))
    (root / "val").mkdir()
    with pytest.raises(DataError, match="expected a folder of images per class"):
        open_data(str(root))
    (root / "val").rmdir()
    (root / "train").rmdir()
    write_folder(root, [(8, 8)], per_class=1)
    (root / "test" / "dog").rename(root / "test" / "cow")
    with pytest.raises(DataError, match=r"differ in the classes \['cow', 'dog'\]"):
        open_data(str(root))
    (root / "test" / "cow").rename(root / "test" / "dog")
    (root / "test" / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0.png: not a readable image"):
        open_data(str(root))
