"""What a folder, a list or an archive says of its images, before they are decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config.images import ImagesConfig
from simclr_ext.trainer.data.dataset import FILES_SIDE, Dataset, Part, fits_in_memory
from simclr_ext.trainer.data.decode import Picture
from simclr_ext.trainer.data.images import LazyImages, Reader
from simclr_ext.trainer.data.split import NO_LABEL, count_classes, held_out
from simclr_ext.trainer.data.verify import find_broken

_HEADERS = 10_000  # at most so many are read to find the images' size and color


@dataclass(frozen=True, eq=False)
class Listing:
    """Images that are not decoded yet.

    Attributes:
        name: Short name.
        reader: All images.
        ids: [n] bytes: path of each image in the data set, or another unique name.
        labels: [n]; NO_LABEL: none.
        class_names: Name of each label.
        test: [n] bool: which are test images.
    """

    name: str
    reader: Reader
    ids: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    test: NDArray[np.bool_]

    @property
    def classes(self) -> int:
        """Number of classes that training images have."""
        return count_classes(self.labels[~self.test])

    def without_labels(self) -> Listing:
        """Return the same images without labels."""
        return replace(self, labels=np.full_like(self.labels, NO_LABEL), class_names=())

    def with_split(self, share: float, seed: int) -> Listing:
        """Return the images with test images: their own, or those that `held_out` chooses."""
        if self.test.any() or not self.class_names or share == 0:
            return self
        test = np.zeros_like(self.test)
        test[held_out(self.labels, share, seed)] = True
        return replace(self, test=test)

    def dataset(self, options: ImagesConfig, workers: int = 2, load: bool = True) -> Dataset:
        """Return the data set, in memory if its images have one size and fit.

        Args:
            options: What becomes of broken images, and the background.
            workers: Threads that decode.
            load: Whether they may be kept in memory.

        Raises:
            DataError: There are no training images, a class has test images alone, or a file is
                not an image.
        """
        every = LazyImages.all_of(self.reader, options.background)
        broken = find_broken(every, workers) if options.on_broken == "skip" else {}
        readable = np.ones(len(self.ids), dtype=bool)
        readable[list(broken)] = False
        if not (readable & ~self.test).any():
            raise DataError(f"{self.name}: no training images")
        self._check_classes()
        labels = torch.from_numpy(self.labels)
        train, test = (
            Part(replace(every, rows=rows), labels[torch.from_numpy(rows)], self.ids[rows])
            for rows in (
                np.flatnonzero(readable & ~self.test),
                np.flatnonzero(readable & self.test),
            )
        )
        data = Dataset(self.name, train, test, self.class_names, tuple(broken.values()))
        return _loaded(data, load)

    def _check_classes(self) -> None:
        """Raise DataError if a class has test images and no training images."""
        labels = set(self.labels[self.test]) - set(self.labels[~self.test]) - {NO_LABEL}
        if labels:
            names = ", ".join(self.class_names[label] for label in sorted(labels))
            raise DataError(f"{self.name}: test images of classes without training images: {names}")


def numbered(classes: NDArray[np.bytes_]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the labels [n] of images, and the sorted names of the classes.

    Args:
        classes: [n]: each image's class; b"": none.
    """
    names, labels = np.unique(classes, return_inverse=True)
    if len(names) > 0 and names[0] == b"":
        names, labels = names[1:], labels - 1  # "" becomes NO_LABEL
    return labels.astype(np.int64), tuple(map(os.fsdecode, names))


class _OtherSizeError(DataError):
    """An image has another size than those whose headers were read."""


def _loaded(data: Dataset, load: bool) -> Dataset:
    """Return the images in gray if all are, and decoded if they have one size and fit into memory.

    Both are known from headers, at most 10,000 of them.
    """
    sizes, channels = zip(*_headers(data), strict=True)
    data = data.with_lazy(lambda images: replace(images, channels=max(channels)))
    if len(set(sizes)) > 1 or not load:
        return data
    size = sizes[0]
    if not fits_in_memory(len(data.train) + len(data.test), *size):
        return data.at(min(max(size), FILES_SIDE))

    def own_size(picture: Picture, _: int) -> Tensor:
        pixels = picture.whole()
        if tuple(pixels.shape[:0:-1]) != size:
            raise _OtherSizeError
        return pixels

    try:
        return data.with_lazy(lambda images: images.read(slice(None), own_size))
    except _OtherSizeError:  # among those whose headers were not read
        return data


def _headers(data: Dataset) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield size and C of images, evenly spaced if there are more than 10,000."""
    share = min(1.0, _HEADERS / (len(data.train) + len(data.test)))
    for part in data.parts.values():
        assert isinstance(part.images, LazyImages)
        for row in np.linspace(0, len(part) - 1, max(1, int(share * len(part))), dtype=int):
            with part.images.open(int(row)) as picture:
                yield picture.size, picture.own_channels
