"""Tiny IDX files, the format of MNIST."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import load_data
from simclr_ext.trainer.data import named as named_module

IMAGES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
LABELS = np.array([9, 0, 3, 1, 1], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def write(folder: Path, compressed: bool) -> Path:
    folder.mkdir(parents=True)
    for part, count in (("train", 5), ("t10k", 2)):
        for kind, array in (("images-idx3", IMAGES[:count]), ("labels-idx1", LABELS[:count])):
            contents, name = idx(array), f"{part}-{kind}-ubyte"
            if compressed:
                contents, name = gzip.compress(contents), f"{name}.gz"
            (folder / name).write_bytes(contents)
    return folder


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_folder_of_idx_files(tmp_path: Path, compressed: bool) -> None:
    data = load_data(str(write(tmp_path / "fashion", compressed)))
    assert (data.name, data.channels, data.class_names[9]) == ("fashion", 1, "Ankle boot")
    assert torch.equal(data.train.images[:, 0], torch.from_numpy(IMAGES))
    assert data.train.labels.tolist() == LABELS.tolist()
    assert data.test.images.shape == (2, 1, 4, 3)


@pytest.mark.parametrize("place", ["downloaded", "debian"])
def test_fashion_mnist_is_found_where_it_is(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_module, "DEBIAN", tmp_path / "usr")
    write(tmp_path / ("usr" if place == "debian" else "FashionMNIST/raw"), compressed=True)
    data = load_data("fashion-mnist", root=str(tmp_path))
    assert (data.name, len(data.train.images), len(data.class_names)) == ("fashion-mnist", 5, 10)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("train-images-idx3-ubyte", idx(IMAGES)[:-1], r"59 bytes for the shape \[5, 4, 3\]"),
        ("train-images-idx3-ubyte", idx(LABELS), "not an IDX file of bytes in 3 dimensions"),
        ("train-labels-idx1-ubyte", idx(LABELS[:3]), "5 images and 3 labels in train"),
        ("t10k-labels-idx1-ubyte", idx(LABELS[:2] + 1), "labels up to 10, 10 classes"),
        ("t10k-images-idx3-ubyte", None, "missing t10k-images-idx3-ubyte"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, contents: bytes | None, message: str) -> None:
    folder = write(tmp_path / "x", compressed=False)
    (folder / name).unlink()
    if contents is not None:
        (folder / name).write_bytes(contents)
    with pytest.raises(DataError, match=message):
        load_data(str(folder))


def test_a_broken_compressed_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", compressed=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"ubyte.gz: not readable"):
        load_data(str(folder))
