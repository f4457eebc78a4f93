"""Folders of images: train/ and test/ (or val/), with a folder of images per class in each.

Images of one size that fit into memory are decoded once; others when they are needed.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.files import ImageFiles
from simclr_ext.trainer.data.images import ImageData

_TEST_FOLDERS = ("test", "val", "validation")
_MEMORY_LIMIT = 4 * 2**30  # bytes


@dataclass(frozen=True)
class FolderData:
    """Images that are decoded when they are needed, and labels; as `ImageData`.

    Attributes:
        name: Short name.
        train_images: Files of the train part.
        train_labels: [n] int64.
        test_images: Files of the test part.
        test_labels: [m] int64.
        class_names: Name of each label.
        channels: C.
    """

    name: str
    train_images: ImageFiles
    train_labels: Tensor
    test_images: ImageFiles
    test_labels: Tensor
    class_names: tuple[str, ...]
    channels: int = 3

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the images as they are decoded, in pixels."""
        return self.train_images.side, self.train_images.side

    @property
    def pretrain_images(self) -> ImageFiles:
        """The images that train the encoder."""
        return self.train_images

    def at(self, side: int, workers: int = 2) -> FolderData:
        """Return the same images, decoded to squares of `side` by so many threads."""
        return dataclasses.replace(
            self,
            train_images=dataclasses.replace(self.train_images, side=side, workers=workers),
            test_images=dataclasses.replace(self.test_images, side=side, workers=workers),
        )

    @property
    def too_large(self) -> str | None:
        """Why the images are not held in memory together; None: they take at most 4 GiB."""
        side, images = self.train_images.side, len(self.train_images) + len(self.test_images)
        size = 3 * side * side * images
        if size <= _MEMORY_LIMIT:
            return None
        return (
            f"{self.name}: {images:,} images of {side} x {side} take {size / 2**30:.0f} GiB, more "
            f"than {_MEMORY_LIMIT / 2**30:.0f}"
        )

    def in_memory(self) -> ImageData:
        """Return the images decoded.

        Raises:
            DataError: They take more than 4 GiB, or a file is broken.
        """
        if self.too_large is not None:
            raise DataError(self.too_large)
        return ImageData(
            self.name,
            self.train_images[:],
            self.train_labels,
            self.test_images[:],
            self.test_labels,
            self.class_names,
        )


def open_folder(folder: Path, name: str) -> ImageData | FolderData:
    """Return the data set in a folder, in memory if its images have one size and fit.

    Raises:
        DataError: A part is missing, empty, or has a broken file.
    """
    tests = [folder / part for part in _TEST_FOLDERS if (folder / part).is_dir()]
    if not (folder / "train").is_dir() or not tests:
        raise DataError(f"{folder}: expected the folders train/ and test/ (or val/) in it")
    train, train_labels, classes = _scan(folder / "train")
    test, test_labels, test_classes = _scan(tests[0])
    if test_classes != classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise DataError(f"{folder}: train and {tests[0].name} differ in the classes {odd}")
    size = _common_size(train, test)
    if size is None or 3 * size[0] * size[1] * (len(train) + len(test)) > _MEMORY_LIMIT:
        return FolderData(name, train, train_labels, test, test_labels, classes)

    train_images, test_images = (
        files.read(slice(None), lambda image, _: image) for files in (train, test)
    )
    return ImageData(name, train_images, train_labels, test_images, test_labels, classes)


def _scan(folder: Path) -> tuple[ImageFiles, Tensor, tuple[str, ...]]:
    """Return files, labels and class names."""
    try:
        files = torchvision.datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{folder}: expected a folder of images per class ({reason})") from error
    labels = torch.tensor(files.targets, dtype=torch.int64)
    return ImageFiles(tuple(path for path, _ in files.samples)), labels, tuple(files.classes)


def _common_size(train: ImageFiles, test: ImageFiles) -> tuple[int, int] | None:
    """Return width and height if all images have the same."""
    sizes = itertools.chain(train.sizes(), test.sizes())
    first = next(sizes)
    return first if all(size == first for size in sizes) else None
