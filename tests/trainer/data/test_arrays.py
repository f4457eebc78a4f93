"""Data sets in .npz files, and the errors of invalid files."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config import ImagesConfig
from simclr_ext.trainer.data import load_data, open_data
from simclr_ext.trainer.data.arrays import load_arrays


def test_npz_color_images(write_npz: Callable[..., Path]) -> None:
    path = write_npz("insects")
    data = load_data(str(path))
    assert (data.name, data.channels, data.class_names) == ("insects", 3, ("ant", "bee", "cat"))
    assert data.train.images.shape == (24, 3, 10, 12)
    with np.load(path) as file:
        assert int(data.test.images[2, 1, 7, 11]) == file["test_images"][2, 7, 11, 1]
        assert data.train.labels.tolist() == file["train_labels"].tolist()


def test_npz_gray_images_medmnist_labels_no_names(write_npz: Callable[..., Path]) -> None:
    path = write_npz(
        train_images=np.zeros((24, 5, 7), np.uint8),
        train_labels=(np.arange(24) % 3)[:, None].astype(np.uint8),
        test_images=np.zeros((9, 5, 7), np.uint8),
        test_labels=(np.arange(9) % 3)[:, None].astype(np.uint8),
        class_names=None,
    )
    data = load_data(str(path))
    assert data.train.images.shape == (24, 1, 5, 7)
    assert data.train.labels.tolist() == [0, 1, 2] * 8
    assert data.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, "no training images; expected train_images or x_train or"),
        ({"train_images": np.zeros((24, 12), np.uint8)}, r"must be .*, got \[24, 12\]"),
        ({"train_images": np.zeros((24, 9, 9, 9), np.uint8)}, "which axis .* has the channels"),
        ({"test_images": np.zeros((0, 10, 12, 3), np.uint8)}, r"got \[0, 10, 12, 3\]"),
        ({"test_images": np.zeros((9, 10, 12), "U1")}, "test_images must be numbers, got <U1"),
        (
            {"test_images": np.zeros((9, 8, 8, 3), np.uint8)},
            "train_images .3, 10, 12., test_images .3, 8, 8",
        ),
        ({"train_labels": np.arange(23) % 3}, r"train_labels must be \[24\] .*got \[23\]"),
        ({"train_labels": np.zeros((24, 14), int)}, r"got \[24, 14\]"),
        ({"test_labels": np.linspace(0, 1, 9)}, "integers from 0, got float64"),
        ({"test_labels": np.full(9, -1)}, "integers from 0, got -1"),
        ({"class_names": np.array(["ant", "bee"])}, "2 class_names for labels up to 2"),
        ({"class_names": np.array(["ant", None])}, "Object arrays"),
        ({"class_names": np.array([0x110000] * 3, "<u4").view("<U1")}, "class_names are not text"),
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
    with pytest.raises(DataError, match="train_images must be"):
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
    data = load_arrays(write_npz(train_labels=train, test_labels=test, class_names=None))
    assert data.class_names == tuple(map(str, sorted(values)))
    for labels, expected in ((data.train.labels, train), (data.test.labels, test)):
        assert labels.dtype == torch.int64
        assert [int(data.class_names[label]) for label in labels] == expected.tolist()


def test_labels_with_names_are_their_numbers(write_npz: Callable[..., Path]) -> None:
    labels = np.arange(24) % 2 * 2  # the class in the middle has no images
    data = load_arrays(write_npz(train_labels=labels))
    assert data.class_names == ("ant", "bee", "cat")
    assert data.train.labels.tolist() == labels.tolist()
    with pytest.raises(DataError, match="3 class_names for labels up to 1099511627776"):
        load_arrays(write_npz(train_labels=labels * 2**39))


def test_every_part_but_the_training_images_may_be_missing(write_npz: Callable[..., Path]) -> None:
    path = write_npz(train_labels=None, test_images=None, test_labels=None, class_names=None)
    data = open_data(str(path))
    assert (len(data.train), len(data.test), data.class_names) == (24, 0, ())
    assert data.train.labels.tolist() == [-1] * 24
    assert data.train.ids[[0, 23]].tolist() == [b"0", b"23"]
    assert not data.has_labels
    with pytest.raises(DataError, match="tiny has no labels, or a single class"):
        _ = data.labeled


def test_a_single_class_is_as_good_as_no_labels(write_npz: Callable[..., Path]) -> None:
    data = open_data(str(write_npz(train_labels=np.zeros(24, int), test_labels=np.ones(9, int))))
    assert (data.class_names, set(data.train.labels.tolist())) == ((), {-1})


def test_without_test_images_some_of_every_class_are_held_out(
    write_npz: Callable[..., Path],
) -> None:
    labels = np.array([0] * 14 + [1] * 9 + [2])  # the only image of its class is for training
    path = str(write_npz(train_labels=labels, test_images=None, test_labels=None))
    whole = load_arrays(Path(path)).train
    data = open_data(path)
    assert data.test.labels.tolist() == [0] * 3 + [1] * 2
    assert sorted([*data.train.ids, *data.test.ids]) == sorted(whole.ids)
    for part in (data.train, data.test):
        rows = torch.tensor([int(key) for key in part.ids])
        assert torch.equal(part.images, whole.images[rows])
        assert torch.equal(part.labels, whole.labels[rows])
    assert open_data(path).test.ids.tolist() == data.test.ids.tolist()
    other = open_data(path, images=ImagesConfig(split_seed=1))
    assert other.test.ids.tolist() != data.test.ids.tolist()
    assert len(open_data(path, images=ImagesConfig(test_share=0.5)).test) == 7 + 4
    assert len(open_data(path, images=ImagesConfig(test_share=0)).test) == 0
    assert len(open_data(path, images=ImagesConfig(labels=False)).test) == 0


def test_unlabeled_images_are_training_images_as_well(write_npz: Callable[..., Path]) -> None:
    more = np.full((5, 10, 12, 3), 7, np.uint8)
    data = open_data(str(write_npz(unlabeled_images=more)))
    assert (len(data.train), len(data.train.labeled), len(data.labeled.train)) == (29, 24, 24)
    assert data.train.labels[24:].tolist() == [-1] * 5
    assert (data.train.images[24:] == 7).all()
    assert torch.equal(data.train.labeled.images[:], data.train.images[:24])


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (PIXELS, ""),
        (PIXELS / np.float32(255), r"float32 in \[0, 1\] is converted"),
        (PIXELS / 255, r"float64 in \[0, 1\] is converted"),
        (PIXELS.astype(np.uint16) * 257, "uint16 is converted"),
        (PIXELS.astype(np.int64), r"int64 in \[0, 255\] is converted"),
        (PIXELS.transpose(0, 3, 1, 2), r"\[6, 3, 20, 24\] is read as \[n, C, H, W\]"),
        (np.ascontiguousarray(PIXELS[:, ::-1])[:, ::-1], ""),
    ],
)
@pytest.mark.parametrize("form", ["savez", "npy", "x_train"])
def test_arrays_whose_meaning_is_certain_are_converted(
    array: NDArray[Any], said: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("images.npy" if form == "npy" else "images.npz")
    if form == "npy":
        np.save(path, array)
    else:
        np.savez(path, **{"arr_0" if form == "savez" else form: array})
    images = open_data(str(path)).train.images
    assert torch.equal(images[:], torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert re.search(said, capsys.readouterr().err)


def test_booleans_are_black_and_white(tmp_path: Path) -> None:
    masks = PIXELS[..., 0] > 128
    np.save(tmp_path / "masks.npy", masks)
    images = open_data(str(tmp_path / "masks.npy")).train.images
    assert torch.equal(images[:], torch.from_numpy(masks)[:, None] * torch.tensor(255).byte())


@pytest.mark.parametrize("shape", [(6, 20, 24, 5), (6, 5, 20, 24)])
def test_other_numbers_of_channels(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "bands.npy", np.zeros(shape, np.uint8))
    assert open_data(str(tmp_path / "bands.npy")).train.images.shape == (6, 5, 20, 24)


@pytest.mark.parametrize(
    "array",
    [
        PIXELS.astype(np.float32),  # in [0, 255]
        PIXELS / 255 - 0.5,
        np.where(PIXELS > 250, np.nan, PIXELS / 255),
        PIXELS.astype(np.uint16) * 16,  # 12 bits
        PIXELS.astype(np.int64) - 1,
        PIXELS.astype(np.int32) // 255,
    ],
)
def test_other_ranges_are_refused_with_the_line_that_converts(
    array: NDArray[Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "odd.npy", array)
    with pytest.raises(DataError, match=r"has no certain range\. Save uint8") as error:
        open_data(str(tmp_path / "odd.npy"))
    line = str(error.value).partition("such as ")[2]
    if np.isfinite(array).all():
        converted = eval(line, {"X": array})
        assert (converted.dtype, converted.min(), converted.max()) == (np.uint8, 0, 255)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"not a readable \.npy file"):
        open_data(str(tmp_path / "objects.npy"))
