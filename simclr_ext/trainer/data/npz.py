"""Data sets in .npz files with MedMNIST's keys."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.dataset import Dataset

_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")


def load_npz(path: Path) -> Dataset:
    """Return the data set in an .npz file with MedMNIST's keys.

    Args:
        path: File with `train_images` and `test_images`, [n, H, W, 3] or [n, H, W] uint8,
            `train_labels` and `test_labels`, [n] or [n, 1] integers from 0, and optionally
            `class_names`, which the labels index. Without names, labels may be any integers from
            0: each value that occurs is a class, and its name.

    Raises:
        DataError: The file is missing or unreadable, lacks a key, or holds other shapes or types.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with file:
            keys = (*_REQUIRED, "class_names")
            arrays = {key: file[key] for key in keys if key in file.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from error
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise DataError(f"{path}: missing {', '.join(missing)}")

    train_images, train_labels = _part(path, arrays, "train")
    test_images, test_labels = _part(path, arrays, "test")
    if train_images.shape[1:] != test_images.shape[1:]:
        train, test = list(train_images.shape[1:]), list(test_images.shape[1:])
        raise DataError(f"{path}: train images are {train} and test images {test} ([C, H, W])")
    if train_labels.min() == train_labels.max():
        raise DataError(f"{path}: train_labels hold fewer than 2 classes")
    values = sorted({*train_labels.tolist(), *test_labels.tolist()})
    names = tuple(map(str, values))
    if "class_names" in arrays:
        names = tuple(map(str, np.atleast_1d(arrays["class_names"])))
        if len(names) <= values[-1]:
            raise DataError(f"{path}: {len(names)} class_names for labels up to {values[-1]}")
        values = list(range(len(names)))
    train_classes, test_classes = _number(train_labels, values), _number(test_labels, values)
    return Dataset(path.stem, train_images, train_classes, test_images, test_classes, names)


def _number(labels: NDArray[Any], values: list[int]) -> Tensor:
    """Return the index of each label in the sorted values, [n] int64."""
    places = {value: place for place, value in enumerate(values)}
    found, rows = np.unique(labels, return_inverse=True)
    return torch.tensor([places[value] for value in found.tolist()])[torch.from_numpy(rows)]


def _part(path: Path, arrays: Mapping[str, NDArray[Any]], part: str) -> tuple[Tensor, NDArray[Any]]:
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8:
        raise DataError(f"{path}: {part}_images must be uint8, got {images.dtype}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        shape = list(arrays[f"{part}_images"].shape)
        raise DataError(f"{path}: {part}_images must be [n, H, W] or [n, H, W, 3], got {shape}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(images),):
        raise DataError(
            f"{path}: {part}_labels must be [{len(images)}] or [{len(images)}, 1], one per image, "
            f"got {list(arrays[f'{part}_labels'].shape)}"
        )
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0:
        found = labels.min() if whole else labels.dtype
        raise DataError(f"{path}: {part}_labels must be integers from 0, got {found}")
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(channels_first), labels
