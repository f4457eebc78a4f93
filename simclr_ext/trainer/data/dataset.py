"""A data set: training and test images, in memory or in files, and their labels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.files import ImageFiles, Images

_MEMORY_LIMIT = 4 * 2**30  # bytes
FILES_SIDE = 224  # maximum default side of image files; the paper's, for ImageNet


@dataclass(frozen=True)
class Dataset:
    """Images and labels.

    Attributes:
        name: Short name, for the run folder and titles.
        train_images: [n, C, H, W] uint8, C = 1 or 3, or files.
        train_labels: [n] int64.
        test_images: [m, C, H, W] uint8, or files.
        test_labels: [m] int64.
        class_names: Name of each label.
        unlabeled: [u, C, H, W] uint8, images to pretrain on instead; None: the training images.
    """

    name: str
    train_images: Images
    train_labels: Tensor
    test_images: Images
    test_labels: Tensor
    class_names: tuple[str, ...]
    unlabeled: Tensor | None = None

    @property
    def channels(self) -> int:
        """C: 1 for gray images, 3 for color images."""
        images = self.train_images
        return images.channels if isinstance(images, ImageFiles) else images.shape[1]

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels of the images, for files after decoding."""
        images = self.train_images
        if isinstance(images, ImageFiles):
            return (images.side or FILES_SIDE,) * 2
        return images.shape[2], images.shape[3]

    @property
    def pretrain_images(self) -> Images:
        """The images that train the encoder."""
        return self.train_images if self.unlabeled is None else self.unlabeled

    def at(self, side: int, workers: int = 2) -> Dataset:
        """Return the same images; files are decoded to squares of `side`, by `workers` threads."""

        def resized(images: Images) -> Images:
            if isinstance(images, ImageFiles):
                return dataclasses.replace(images, side=side, workers=workers)
            return images

        return dataclasses.replace(
            self,
            train_images=resized(self.train_images),
            test_images=resized(self.test_images),
        )

    @property
    def too_large(self) -> str | None:
        """Why the files do not fit into memory; None: at most 4 GiB, or already in memory."""
        if isinstance(self.train_images, Tensor):
            return None
        height, width = self.sides
        images = len(self.train_images) + len(self.test_images)
        if fits_in_memory(images, height, width):
            return None
        size, limit = (n / 2**30 for n in (_bytes(images, height, width), _MEMORY_LIMIT))
        return (
            f"{self.name}: {images:,} images of {width} x {height} take {size:.0f} GiB, more than "
            f"{limit:.0f}"
        )

    def in_memory(self) -> Dataset:
        """Return the images decoded.

        Raises:
            DataError: They take more than 4 GiB, or a file is broken.
        """
        if self.too_large is not None:
            raise DataError(self.too_large)
        return dataclasses.replace(
            self, train_images=self.train_images[:], test_images=self.test_images[:]
        )

    def with_channels(self, channels: int) -> Dataset:
        """Return the images with the number of channels of a model; gray ones are repeated.

        Raises:
            DataError: They have color, and the model takes gray images.
        """
        if self.channels == channels:
            return self
        if self.channels == 3:
            raise DataError(f"the model takes gray images, but those of {self.name} have color")
        train, test = (
            images[:].expand(-1, channels, -1, -1)
            for images in (self.train_images, self.test_images)
        )
        return dataclasses.replace(self, train_images=train, test_images=test)


def fits_in_memory(images: int, height: int, width: int) -> bool:
    """Return whether this many color images take at most 4 GiB."""
    return _bytes(images, height, width) <= _MEMORY_LIMIT


def _bytes(images: int, height: int, width: int) -> int:
    return 3 * height * width * images
