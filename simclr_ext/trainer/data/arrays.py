"""Data sets in .npz and .npy files.

An .npz file has MedMNIST's keys, or others for the same:

| array | keys | shape |
|---|---|---|
| training images | `train_images`, `x_train`, `images`, `arr_0` | [n, H, W] or [n, H, W, C] |
| their labels | `train_labels`, `y_train`, `labels`, `arr_1` | [n] or [n, 1] |
| test images | `test_images`, `x_test` | as the training images |
| their labels | `test_labels`, `y_test` | [m] or [m, 1] |
| images without labels | `unlabeled_images` | as the training images |
| class names | `class_names` | [classes] |

All but the training images may be missing. An .npy file has training images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.convert import to_images
from simclr_ext.trainer.data.dataset import Dataset, Part
from simclr_ext.trainer.data.memory import check_memory

_KEYS = {
    "train_images": ("train_images", "x_train", "images", "arr_0"),
    "train_labels": ("train_labels", "y_train", "labels", "arr_1"),
    "test_images": ("test_images", "x_test"),
    "test_labels": ("test_labels", "y_test"),
    "unlabeled_images": ("unlabeled_images",),
    "class_names": ("class_names",),
}


def load_arrays(path: Path) -> Dataset:
    """Return the data set in an .npz or .npy file.

    Labels without `class_names` may be any integers from 0: each value that occurs is a class, and
    its name. With names, labels index them.

    Raises:
        DataError: The file is unreadable, has no images, or holds other shapes or types.
    """
    arrays = _read(path)
    if "train_images" not in arrays:
        raise DataError(
            f"{path}: no training images; expected {' or '.join(_KEYS['train_images'])}"
        )
    shapes, parts = {}, {}
    for part in ("train", "unlabeled", "test"):
        key = f"{part}_images"
        if key in arrays:
            images = to_images(arrays[key], f"{path}: {key}")
            parts[part], shapes[key] = images, list(images.shape[1:])
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise DataError(f"{path}: images differ in [C, H, W]: {found}")
    values = {
        part: _labels(path, arrays[f"{part}_labels"], part, len(parts[part]))
        for part in ("train", "test")
        if f"{part}_labels" in arrays and part in parts
    }
    known, names = _classes(path, values, arrays.get("class_names"))
    labels = {part: _number(found, known) for part, found in values.items()}
    train = Part.of(parts["train"], labels.get("train"))
    if "unlabeled" in parts:
        train = train.with_unlabeled(parts["unlabeled"])
    test = (
        Part.of(parts["test"], labels.get("test"))
        if "test" in parts
        else train.take(torch.arange(0))
    )
    return Dataset(path.stem, train, test, names)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file, with the first of each list of keys."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            return {"train_images": file}
        with file:
            found = {
                key: name
                for key, names in _KEYS.items()
                for name in [name for name in names if name in file.files][:1]
            }
            _check_sizes(path, file, found.values())
            arrays = {key: file[name] for key, name in found.items()}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except Exception as error:  # reading a damaged file may raise any exception
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: not a readable {path.suffix} file ({reason})") from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):  # a file of another kind in the archive
            raise DataError(f"{path}: {found[key]} is not an array")
    return arrays


def _check_sizes(path: Path, file: np.lib.npyio.NpzFile, names: Iterable[str]) -> None:
    """Raise DataError if some of the arrays take too much memory; they may be compressed."""
    members = [] if file.zip is None else file.zip.infolist()
    sizes = {member.filename: member.file_size for member in members}
    total = sum(sizes.get(f"{name}.npy", sizes.get(name, 0)) for name in names)
    check_memory(str(path), total)


def _labels(path: Path, labels: NDArray[Any], part: str, images: int) -> NDArray[Any]:
    """Return labels [n], integers from 0."""
    shape = list(labels.shape)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (images,):
        raise DataError(
            f"{path}: {part}_labels must be [{images}] or [{images}, 1], one per image, got {shape}"
        )
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0:
        found = labels.min() if whole else labels.dtype
        raise DataError(f"{path}: {part}_labels must be integers from 0, got {found}")
    return labels


def _classes(
    path: Path, labels: Mapping[Any, NDArray[Any]], given: NDArray[Any] | None
) -> tuple[list[int], tuple[str, ...]]:
    """Return the values of the labels that are classes, in order, and the classes' names."""
    values = sorted({value for part in labels.values() for value in part.tolist()})
    if given is None or not values:
        return values, tuple(map(str, values))
    try:
        names = tuple(map(str, np.atleast_1d(given)))
        " ".join(names).encode()
    except (SystemError, ValueError) as error:  # an array may hold numbers of no characters
        raise DataError(f"{path}: class_names are not text ({error})") from error
    if len(names) <= values[-1]:
        raise DataError(f"{path}: {len(names)} class_names for labels up to {values[-1]}")
    return list(range(len(names))), names


def _number(labels: NDArray[Any], values: list[int]) -> Tensor:
    """Return the index of each label in the sorted values, [n] int64."""
    places = {value: place for place, value in enumerate(values)}
    found, rows = np.unique(labels, return_inverse=True)
    return torch.tensor([places[value] for value in found.tolist()])[torch.from_numpy(rows)]
