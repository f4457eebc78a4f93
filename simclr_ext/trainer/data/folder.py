"""Folders of images: train/ and test/ (or val/), with a folder of images per class in each.

Images of one size that fit into memory are decoded once, others on demand.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.dataset import FILES_SIDE, Dataset, fits_in_memory
from simclr_ext.trainer.data.files import ImageFiles
from simclr_ext.trainer.data.pixels import WHITE, Color

_TEST_FOLDERS = ("test", "val", "validation")


def open_folder(folder: Path, name: str, background: Color = WHITE) -> Dataset:
    """Return the data set in a folder, in memory if its images have one size and fit.

    Args:
        folder: The folder.
        name: Name of the data set.
        background: Color behind transparent pixels.

    Raises:
        DataError: A part is missing, empty, or has a broken file.
    """
    tests = [folder / part for part in _TEST_FOLDERS if (folder / part).is_dir()]
    if not (folder / "train").is_dir() or not tests:
        raise DataError(f"{folder}: expected the folders train/ and test/ (or val/) in it")
    train, train_labels, classes = _scan(folder / "train", background)
    test, test_labels, test_classes = _scan(tests[0], background)
    if test_classes != classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise DataError(f"{folder}: train and {tests[0].name} differ in the classes {odd}")
    size = _common_size(train, test)
    data = Dataset(name, train, train_labels, test, test_labels, classes)
    if size is None:
        return data
    if not fits_in_memory(len(train) + len(test), *size):
        return data.at(min(max(size), FILES_SIDE))
    train_images, test_images = (
        files.read(slice(None), lambda image, _: image) for files in (train, test)
    )
    return dataclasses.replace(data, train_images=train_images, test_images=test_images)


def _scan(folder: Path, background: Color) -> tuple[ImageFiles, Tensor, tuple[str, ...]]:
    """Return files, labels and class names."""
    try:
        files = torchvision.datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{folder}: expected a folder of images per class ({reason})") from error
    labels = torch.tensor(files.targets, dtype=torch.int64)
    images = ImageFiles(tuple(path for path, _ in files.samples), background=background)
    return images, labels, tuple(files.classes)


def _common_size(train: ImageFiles, test: ImageFiles) -> tuple[int, int] | None:
    """Return width and height if all images have the same; None otherwise."""
    sizes = itertools.chain(train.sizes(), test.sizes())
    first = next(sizes)
    return first if all(size == first for size in sizes) else None
