"""Folders of images: train/ and test/ (or val/), with a folder of images per class in each.

Images of one size that fit into memory are decoded once; others when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from simclr_ext.trainer.data.images import ImageData
from simclr_ext.trainer.errors import DataError

_TEST_FOLDERS = ("test", "val", "validation")
_MEMORY_LIMIT = 4 * 2**30  # bytes


@dataclass(frozen=True)
class ImageFiles:
    """Image files and labels.

    Attributes:
        paths: The files.
        labels: [n] int64.
    """

    paths: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, index: int) -> Image.Image:
        """Return an image in RGB.

        Raises:
            DataError: The file is no image, or a broken one.
        """
        try:
            with Image.open(self.paths[index]) as file:
                image: Image.Image = file.convert("RGB")
                return image
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{self.paths[index]}: not a readable image ({error})") from error

    def subset(self, rows: Sequence[int] | Tensor) -> ImageFiles:
        """Return the files of the given rows."""
        index = torch.as_tensor(rows)
        return ImageFiles(tuple(self.paths[row] for row in index.tolist()), self.labels[index])

    def load(self, side: int) -> Tensor:
        """Return every image, [n, 3, side, side] uint8: resized, and the centre cropped.

        As in the paper's evaluation: the shorter side is made 8/7 of `side` first (256 of 224).
        """
        images = torch.empty(len(self), 3, side, side, dtype=torch.uint8)
        for index in range(len(self)):
            images[index] = _to_tensor(_centre(self.open(index), side))
        return images


@dataclass(frozen=True)
class FolderData:
    """Images that are decoded when they are needed.

    Attributes:
        name: Short name.
        train: Files of the train part.
        test: Files of the test part.
        class_names: Name of each label.
    """

    name: str
    train: ImageFiles
    test: ImageFiles
    class_names: tuple[str, ...]
    channels: int = 3
    sides: tuple[int, int] = (224, 224)  # of the views, unless the configuration says otherwise

    def check_memory(self, side: int) -> None:
        """Raise DataError if the images, cropped to squares, take more than 4 GiB."""
        size = 3 * side * side * (len(self.train) + len(self.test))
        if size > _MEMORY_LIMIT:
            raise DataError(
                f"{self.name}: {len(self.train) + len(self.test):,} images of {side} x {side} take "
                f"{size / 2**30:.0f} GiB, more than {_MEMORY_LIMIT / 2**30:.0f}"
            )

    def in_memory(self, side: int) -> ImageData:
        """Return the images decoded, resized and cropped to a square.

        Raises:
            DataError: They take more than 4 GiB.
        """
        self.check_memory(side)
        return ImageData(
            self.name,
            self.train.load(side),
            self.train.labels,
            self.test.load(side),
            self.test.labels,
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
    train, classes = _scan(folder / "train")
    test, test_classes = _scan(tests[0])
    if test_classes != classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise DataError(f"{folder}: train and {tests[0].name} differ in the classes {odd}")
    data = FolderData(name, train, test, classes)
    size = _common_size([*train.paths, *test.paths])
    if size is None:
        return data
    width, height = size
    if 3 * width * height * (len(train) + len(test)) > _MEMORY_LIMIT:
        return data

    def decode(files: ImageFiles) -> Tensor:
        return torch.stack([_to_tensor(files.open(index)) for index in range(len(files))])

    return ImageData(name, decode(train), train.labels, decode(test), test.labels, classes)


def _scan(folder: Path) -> tuple[ImageFiles, tuple[str, ...]]:
    try:
        files = torchvision.datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{folder}: expected a folder of images per class ({reason})") from error
    labels = torch.tensor(files.targets, dtype=torch.int64)
    return ImageFiles(tuple(path for path, _ in files.samples), labels), tuple(files.classes)


def _common_size(paths: Sequence[str]) -> tuple[int, int] | None:
    """Return width and height if all images have the same, by the files' headers."""
    sizes = _sizes(paths)
    first = next(sizes)
    return first if all(size == first for size in sizes) else None


def _sizes(paths: Sequence[str]) -> Iterator[tuple[int, int]]:
    for path in paths:
        try:
            with Image.open(path) as image:
                yield image.size
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{path}: not a readable image ({error})") from error


def _centre(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    crop = min(width, height) * 7 / 8  # side of the central square, in the image's pixels
    left, top = (width - crop) / 2, (height - crop) / 2
    box = (left, top, left + crop, top + crop)
    return image.resize((side, side), Image.Resampling.BILINEAR, box)


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
