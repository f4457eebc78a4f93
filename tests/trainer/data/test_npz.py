"""Data sets in .npz files, and the errors of invalid files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import load_data
from simclr_ext.trainer.data.npz import load_npz


def test_npz_color_images(write_npz: Callable[..., Path]) -> None:
    path = write_npz("insects")
    data = load_data(str(path))
    assert (data.name, data.channels, data.class_names) == ("insects", 3, ("ant", "bee", "cat"))
    assert data.train_images.shape == (24, 3, 10, 12)
    with np.load(path) as file:
        assert int(data.test_images[2, 1, 7, 11]) == file["test_images"][2, 7, 11, 1]
        assert data.train_labels.tolist() == file["train_labels"].tolist()


def test_npz_gray_images_medmnist_labels_no_names(write_npz: Callable[..., Path]) -> None:
    path = write_npz(
        train_images=np.zeros((24, 5, 7), np.uint8),
        train_labels=(np.arange(24) % 3)[:, None].astype(np.uint8),
        test_images=np.zeros((9, 5, 7), np.uint8),
        test_labels=(np.arange(9) % 3)[:, None].astype(np.uint8),
        class_names=None,
    )
    data = load_data(str(path))
    assert data.train_images.shape == (24, 1, 5, 7)
    assert data.train_labels.tolist() == [0, 1, 2] * 8
    assert data.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_images": None, "test_labels": None}, "missing test_images, test_labels"),
        ({"train_images": np.zeros((24, 10, 12, 3), np.float32)}, "must be uint8, got float32"),
        ({"train_images": np.zeros((24, 12), np.uint8)}, r"must be .*, got \[24, 12\]"),
        ({"train_images": np.zeros((24, 9, 9, 4), np.uint8)}, r"got \[24, 9, 9, 4\]"),
        ({"test_images": np.zeros((0, 10, 12, 3), np.uint8)}, r"got \[0, 10, 12, 3\]"),
        ({"test_images": np.zeros((9, 8, 8, 3), np.uint8)}, r"\[3, 10, 12\] .* \[3, 8, 8\]"),
        ({"train_labels": np.arange(23) % 3}, r"train_labels must be \[24\] .*got \[23\]"),
        ({"train_labels": np.zeros((24, 14), int)}, r"got \[24, 14\]"),
        ({"test_labels": np.linspace(0, 1, 9)}, "integers from 0, got float64"),
        ({"test_labels": np.full(9, -1)}, "integers from 0, got -1"),
        ({"train_labels": np.zeros(24, int)}, "fewer than 2 classes"),
        ({"class_names": np.array(["ant", "bee"])}, "2 class_names for labels up to 2"),
        ({"class_names": np.array(["ant", None])}, "Object arrays"),
    ],
)
def test_npz_error_names_the_file_and_what_is_wrong(
    write_npz: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    path = write_npz(**changes)
    with pytest.raises(DataError, match=message) as error:
        load_data(str(path))
    assert str(error.value).startswith(f"{path}: ")


def test_file_that_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match=r"broken.npz: not a readable .npz file"):
        load_data(str(path))
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="it holds a single array"):
        load_data(str(path))
    with pytest.raises(DataError, match=r"gone.npz: no such file"):
        load_data(str(tmp_path / "gone.npz"))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 2**40, 5], np.int64),
        ([0, 2**63 + 1, 2**64 - 1], np.uint64),
        (range(0, 10000, 1000), np.int32),
        ([3, 4], np.uint8),
    ],
    ids=["huge", "uint64", "sparse", "not from 0"],
)
def test_labels_are_numbered_and_their_values_are_names(
    values: Sequence[int], dtype: type, write_npz: Callable[..., Path]
) -> None:
    train = np.array(values, dtype)[np.arange(24) % len(values)]
    test = train[:9].astype(np.uint64)  # with int64 labels, numpy would compute in floats
    data = load_npz(write_npz(train_labels=train, test_labels=test, class_names=None))
    assert data.class_names == tuple(map(str, sorted(values)))
    for labels, expected in ((data.train_labels, train), (data.test_labels, test)):
        assert labels.dtype == torch.int64
        assert [int(data.class_names[label]) for label in labels] == expected.tolist()


def test_labels_with_names_are_their_numbers(write_npz: Callable[..., Path]) -> None:
    labels = np.arange(24) % 2 * 2  # the class in the middle has no images
    data = load_npz(write_npz(train_labels=labels))
    assert data.class_names == ("ant", "bee", "cat")
    assert data.train_labels.tolist() == labels.tolist()
    with pytest.raises(DataError, match="3 class_names for labels up to 1099511627776"):
        load_npz(write_npz(train_labels=labels * 2**39))
