"""torchvision's data sets from tiny files in their formats, and the errors if files are missing."""

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets as tv
from scipy.io import savemat

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import load_data, open_data
from simclr_ext.trainer.data import named as named_module


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept files with other checksums."""
    for cls in (tv.CIFAR10, tv.CIFAR100, tv.STL10):
        monkeypatch.setattr(cls, "_check_integrity", lambda self: True)
    for module in (tv.cifar, tv.svhn):
        monkeypatch.setattr(module, "check_integrity", lambda *_: True)


def pixels(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "folder", "parts", "meta", "key"),
    [
        ("cifar10", "cifar-10-batches-py", 6, "batches.meta", "label_names"),
        ("cifar100", "cifar-100-python", 2, "meta", "fine_label_names"),
    ],
)
def test_cifar(tmp_path: Path, name: str, folder: str, parts: int, meta: str, key: str) -> None:
    (tmp_path / folder).mkdir()
    cls = tv.CIFAR10 if name == "cifar10" else tv.CIFAR100
    files = [file for file, _ in cls.train_list + cls.test_list]
    assert len(files) == parts
    for file in files:
        entry = {"data": pixels(2, 3072), "labels" if parts == 6 else "fine_labels": [1, 0]}
        (tmp_path / folder / file).write_bytes(pickle.dumps(entry))
    (tmp_path / folder / meta).write_bytes(pickle.dumps({key: ["cat", "dog"]}))
    data = load_data(name, root=str(tmp_path))
    assert (data.name, data.class_names) == (name, ("cat", "dog"))
    assert data.train.images.shape == (2 * (parts - 1), 3, 32, 32)
    assert data.test.labels.tolist() == [1, 0]
    assert data.test.images[1].flatten().tolist() == pixels(2, 3072)[1].tolist()


@pytest.mark.usefixtures("unchecked")
def test_stl10_trains_on_the_unlabeled_images_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, count in (("train", 3), ("test", 2), ("unlabeled", 4)):
        pixels(count, 3, 96, 96).tofile(folder / f"{name}_X.bin")
        if name != "unlabeled":
            np.arange(1, count + 1, dtype=np.uint8).tofile(folder / f"{name}_y.bin")
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")
    data = load_data("stl10", root=str(tmp_path))
    assert data.train.labels.tolist() == [0, 1, 2, -1, -1, -1, -1]
    assert data.train.images.shape == (7, 3, 96, 96)
    assert len(data.labeled.train) == 3


@pytest.mark.usefixtures("unchecked")
def test_svhn(tmp_path: Path) -> None:
    (tmp_path / "svhn").mkdir()
    for name in ("train", "test"):
        contents = {"X": pixels(32, 32, 3, 3), "y": np.array([[1], [10], [2]])}
        savemat(tmp_path / "svhn" / f"{name}_32x32.mat", contents)
    data = load_data("svhn", root=str(tmp_path))
    assert data.train.images.shape == (3, 3, 32, 32)
    assert data.train.labels.tolist() == [1, 0, 2]  # a zero is stored as 10
    assert int(data.train.images[1, 2, 5, 7]) == pixels(32, 32, 3, 3)[5, 7, 2, 1]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cifar10", "cifar-10-batches-py"),
        ("cifar100", "cifar-100-python"),
        ("stl10", "stl10_binary"),
        ("svhn", "svhn"),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("imagenet", "imagenet/train"),
    ],
)
def test_the_error_of_a_missing_data_set_names_its_place(
    tmp_path: Path, name: str, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_module, "DEBIAN", tmp_path / "usr")
    with pytest.raises(DataError) as error:
        open_data(name, root=str(tmp_path / "data"))
    assert f"{name}: not found; expected {tmp_path / 'data' / files}" in str(error.value)
    assert not (tmp_path / "data").exists()


def test_a_download_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(tv.cifar, "download_and_extract_archive", offline)
    with pytest.raises(DataError, match=r"cifar10: cannot be downloaded \(.*no network.*expected"):
        open_data("cifar10", root=str(tmp_path / "data"), download=True)
    line = f"cifar10: downloading what is missing in {tmp_path / 'data'}\n"
    assert capsys.readouterr().err == line


def test_imagenet_is_a_folder_and_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its license does not allow a download"):
        open_data("imagenet", root=str(tmp_path), download=True)


def test_unknown_data() -> None:
    with pytest.raises(DataError, match=r"data must be digits, cifar10, .*, got 'mnist'"):
        open_data("mnist")
