"""Data sets in memory: images as uint8 tensors, with a train and a test part."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ImageData:
    """Images and labels.

    Attributes:
        name: Short name, for the run folder and titles.
        train_images: [n, C, H, W] uint8, C = 1 or 3.
        train_labels: [n] int64.
        test_images: [m, C, H, W] uint8.
        test_labels: [m] int64.
        class_names: Name of each label.
        unlabelled: [u, C, H, W] uint8, images to pretrain on instead; None: there are none.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    unlabelled: Tensor | None = None

    @property
    def channels(self) -> int:
        """C: 1 for grey images, 3 for colour images."""
        return self.train_images.shape[1]

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.train_images.shape[2], self.train_images.shape[3]

    @property
    def pretrain_images(self) -> Tensor:
        """The images that train the encoder, [n, C, H, W] uint8."""
        return self.train_images if self.unlabelled is None else self.unlabelled
