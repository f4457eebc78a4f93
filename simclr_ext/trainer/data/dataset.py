"""A data set: training and test images, in memory or decoded on demand, and their labels."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.images import Images, LazyImages
from simclr_ext.trainer.data.split import NO_LABEL, count_classes, held_out

_MEMORY_LIMIT = 4 * 2**30  # bytes
_MARKED = 256  # images, evenly spaced, whose pixels tell whether they have changed
FILES_SIDE = 224  # maximum default side of image files; the paper's, for ImageNet


@dataclass(frozen=True, eq=False)
class Part:
    """The training images of a data set, or its test images.

    Attributes:
        images: [n, C, H, W] uint8, or images that are decoded on demand.
        labels: [n] int64; -1: the image has no label.
        ids: [n] bytes: path of each image in the data set, or its row number.
    """

    images: Images
    labels: Tensor
    ids: NDArray[np.bytes_]

    @classmethod
    def of(
        cls,
        images: Images,
        labels: Tensor | None = None,
        ids: NDArray[np.bytes_] | None = None,
    ) -> Part:
        """Return images without labels, and with row numbers as ids, unless they are given."""
        if labels is None:
            labels = torch.full((len(images),), NO_LABEL)
        return cls(images, labels, np.arange(len(images)).astype(np.bytes_) if ids is None else ids)

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def marks(self) -> dict[str, str | None]:
        """Hashes that tell whether these are still the same images.

        "ids": of all ids, in order; "pixels": of some of the images, if they are in memory.
        """
        pixels = None
        if isinstance(self.images, Tensor):
            rows = torch.linspace(0, len(self) - 1, min(len(self), _MARKED)).long()
            pixels = hashlib.sha256(self.images[rows].contiguous().numpy().data).hexdigest()
        ids = hashlib.sha256(b"\0".join(self.ids.tolist())).hexdigest()
        return {"ids": ids, "pixels": pixels}

    @property
    def channels(self) -> int:
        """C, such as 1 for gray images and 3 for color images."""
        images = self.images
        return images.channels if isinstance(images, LazyImages) else images.shape[1]

    def take(self, rows: Tensor) -> Part:
        """Return some of the images; a range of rows shares their memory."""
        images: Images
        if isinstance(self.images, LazyImages):
            images = self.images.take(rows)
        elif len(rows) > 0 and bool((rows.diff() == 1).all()):
            images = self.images[int(rows[0]) : int(rows[-1]) + 1]
        else:
            images = self.images[rows]
        return Part(images, self.labels[rows], self.ids[rows.numpy()])

    def with_unlabeled(self, images: Tensor) -> Part:
        """Return these images in memory followed by others [u, C, H, W] without labels."""
        every = torch.cat([self.images[:], images])
        return Part.of(every, torch.cat([self.labels, torch.full((len(images),), NO_LABEL)]))

    @property
    def labeled(self) -> Part:
        """The images that have a label; in memory, they may be copied."""
        has = self.labels != NO_LABEL
        return self if bool(has.all()) else self.take(has.nonzero()[:, 0])

    @property
    def label_count(self) -> int:
        """Number of images that have a label."""
        return int((self.labels != NO_LABEL).sum())

    def without_labels(self) -> Part:
        """Return the same images without labels."""
        return Part.of(self.images, ids=self.ids)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels.

    Attributes:
        name: Short name, for the run folder and titles.
        train: All its images train the encoder; those with a label also train probes.
        test: Images that the encoder is not trained on; may be empty.
        class_names: Name of each label; empty if there are no labels.
        broken: What is wrong with each image that was left out because it cannot be read.
    """

    name: str
    train: Part
    test: Part
    class_names: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """A line on the images, for people."""
        labeled = self.train.label_count
        parts = [f"{len(self.train):,} training images"]
        if self.class_names and labeled < len(self.train):
            parts[0] += f" ({labeled:,} with labels)"
        if len(self.test) > 0:
            parts.append(f"{len(self.test):,} test images")
        if self.class_names:
            parts.append(f"{len(self.class_names)} classes")
        if self.broken:
            parts.append(f"{len(self.broken):,} broken images left out")
        if not self.has_labels:
            parts.append("no labels to evaluate with: no comparison and no k-NN accuracy")
        return f"{self.name}: {', '.join(parts)}"

    @property
    def channels(self) -> int:
        """C, such as 1 for gray images and 3 for color images."""
        return self.train.channels

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels of the images, for files after decoding."""
        images = self.train.images
        if isinstance(images, LazyImages):
            return (images.side or FILES_SIDE,) * 2
        return images.shape[2], images.shape[3]

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that have images, by name."""
        parts = {"train": self.train, "test": self.test}
        return {name: part for name, part in parts.items() if len(part) > 0}

    @functools.cached_property
    def labeled(self) -> Dataset:
        """The images that have a label.

        Raises:
            DataError: There are not two classes among them, or no test images.
        """
        if not self.class_names:
            raise DataError(f"{self.name} has no labels, or a single class")
        if self.test.label_count == 0:
            raise DataError(f"{self.name} has no labeled test images: set images.test_share")
        return self._with_parts(lambda part: part.labeled)

    def unseen(self, images: int, seed: int) -> tuple[str, Part]:
        """Return "test" and the test images; if there are none, "training" and some of those.

        Args:
            images: Maximum number of training images.
            seed: Seed of their choice.
        """
        if len(self.test) > 0:
            return "test", self.test
        rows = np.random.default_rng(seed).permutation(len(self.train))[:images]
        return "training", self.train.take(torch.from_numpy(np.sort(rows)))

    @property
    def classes(self) -> int:
        """Number of classes that training images have."""
        return count_classes(self.train.labels.numpy())

    @property
    def has_labels(self) -> bool:
        """Whether a representation can be evaluated: two classes, and labeled test images."""
        return bool(self.class_names) and self.test.label_count > 0

    def without_labels(self) -> Dataset:
        """Return the same images without labels."""
        train, test = self.train.without_labels(), self.test.without_labels()
        return replace(self, train=train, test=test, class_names=())

    def with_split(self, share: float, seed: int) -> Dataset:
        """Return the data set with test images: its own, or those that `held_out` chooses."""
        if len(self.test) > 0 or not self.class_names or share == 0:
            return self
        rows = torch.from_numpy(held_out(self.train.labels.numpy(), share, seed))
        kept = torch.ones(len(self.train), dtype=torch.bool)
        kept[rows] = False
        return replace(
            self, train=self.train.take(kept.nonzero()[:, 0]), test=self.train.take(rows)
        )

    def at(self, side: int, workers: int = 2) -> Dataset:
        """Return the same images; files are decoded to squares of `side`, by `workers` threads."""
        return self.with_lazy(lambda images: replace(images, side=side, workers=workers))

    @property
    def too_large(self) -> str | None:
        """Why the files do not fit into memory; None: at most 4 GiB, or already in memory."""
        if isinstance(self.train.images, Tensor):
            return None
        height, width = self.sides
        images = len(self.train) + len(self.test)
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
        return self.with_lazy(lambda images: images[:])

    def with_channels(self, channels: int) -> Dataset:
        """Return the images with the number of channels of a model; gray ones are repeated.

        Raises:
            DataError: They are not gray, and the model takes another number of channels.
        """
        if self.channels == channels:
            return self
        if self.channels != 1:
            kind = "gray images" if channels == 1 else f"{channels} channels"
            raise DataError(
                f"the model takes {kind}, but images of {self.name} have {self.channels} channels"
            )
        return self._with_images(
            lambda images: (
                replace(images, channels=channels)
                if isinstance(images, LazyImages)
                else images.expand(-1, channels, -1, -1)
            )
        )

    def with_lazy(self, change: Callable[[LazyImages], Images]) -> Dataset:
        """Return the data set with a function of its images that are decoded on demand."""
        return self._with_images(
            lambda images: change(images) if isinstance(images, LazyImages) else images
        )

    def _with_images(self, change: Callable[[Images], Images]) -> Dataset:
        return self._with_parts(lambda part: replace(part, images=change(part.images)))

    def _with_parts(self, change: Callable[[Part], Part]) -> Dataset:
        train = change(self.train)
        test = change(self.test) if len(self.test) > 0 else self.test
        return replace(self, train=train, test=test)


def fits_in_memory(images: int, height: int, width: int) -> bool:
    """Return whether this many color images take at most 4 GiB."""
    return _bytes(images, height, width) <= _MEMORY_LIMIT


def _bytes(images: int, height: int, width: int) -> int:
    return 3 * height * width * images
