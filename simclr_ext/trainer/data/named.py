"""Data sets of torchvision, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.datasets as tv
from numpy.typing import NDArray
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.dataset import Dataset, Part
from simclr_ext.trainer.data.idx import DEBIAN, is_idx_folder, load_idx
from simclr_ext.trainer.progress import say

Arrays = tuple[Tensor, Tensor]  # images [n, C, H, W] uint8, labels [n] int64


class _Named(NamedTuple):
    files: str  # expected in the root; named in the error
    load: Callable[[Path, bool], Dataset]


def load_named(name: str, root: Path, download: bool) -> Dataset:
    """Return a data set of torchvision.

    Args:
        name: A key of `NAMED`.
        root: Folder of the data set and of downloads.
        download: Whether to download the data set if it is missing.

    Raises:
        DataError: It is missing, or cannot be downloaded.
    """
    files, load = NAMED[name]
    expected = f"expected {root / files}"
    if download:
        root.mkdir(parents=True, exist_ok=True)
        say(f"{name}: downloading what is missing in {root}")
    try:
        return load(root, download)
    except (RuntimeError, OSError) as error:  # URLError is an OSError
        reason = str(error).partition("\n")[0]
        if download:
            raise DataError(f"{name}: cannot be downloaded ({reason}); {expected}") from error
        hint = "set download=true to download it, or data_root= to its folder"
        raise DataError(f"{name}: not found; {expected}; {hint}") from error


def _cifar(cls: type[tv.CIFAR10], name: str) -> Callable[[Path, bool], Dataset]:
    def load(root: Path, download: bool) -> Dataset:
        parts = [cls(str(root), train=train, download=download) for train in (True, False)]
        train, test = (_arrays(part.data.transpose(0, 3, 1, 2), part.targets) for part in parts)
        return Dataset(name, Part.of(*train), Part.of(*test), tuple(parts[0].classes))

    return load


def _stl10(root: Path, download: bool) -> Dataset:
    parts = {
        split: tv.STL10(str(root), split=split, download=download)
        for split in ("train", "test", "unlabeled")
    }
    train, test = (_arrays(parts[split].data, parts[split].labels) for split in ("train", "test"))
    unlabeled = torch.from_numpy(parts["unlabeled"].data)
    every = Part.of(*train).with_unlabeled(unlabeled)
    return Dataset("stl10", every, Part.of(*test), tuple(parts["train"].classes))


def _svhn(root: Path, download: bool) -> Dataset:
    parts = [tv.SVHN(str(root / "svhn"), split, download=download) for split in ("train", "test")]
    train, test = (_arrays(part.data, part.labels) for part in parts)
    return Dataset("svhn", Part.of(*train), Part.of(*test), tuple("0123456789"))


def _fashion_mnist(root: Path, download: bool) -> Dataset:
    downloaded = root / "FashionMNIST" / "raw"
    for folder in (downloaded, DEBIAN):
        if is_idx_folder(folder):
            return load_idx(folder, "fashion-mnist")
    tv.FashionMNIST(str(root), download=download)
    return load_idx(downloaded, "fashion-mnist")


def _arrays(images: NDArray[np.uint8], labels: Any) -> Arrays:
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return pixels, torch.from_numpy(np.asarray(labels, np.int64))


NAMED = {
    "cifar10": _Named("cifar-10-batches-py", _cifar(tv.CIFAR10, "cifar10")),
    "cifar100": _Named("cifar-100-python", _cifar(tv.CIFAR100, "cifar100")),
    "stl10": _Named("stl10_binary", _stl10),
    "svhn": _Named("svhn", _svhn),
    "fashion-mnist": _Named("FashionMNIST/raw", _fashion_mnist),
}
