"""Views of which only one branch is transformed, to isolate the effect of a transformation.

Source: SimCLR (arXiv 2002.05709), section 3.1. Every image is first randomly cropped and resized;
one branch keeps that crop, the other one goes through the targeted transformations. Both branches
have the same crop, so they differ only by the targeted transformations, one of which may be a
second crop.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from simclr_ext.studies.material.transforms import (
    Transform,
    cutout,
    gaussian_noise,
    random_rotate,
    sobel,
)
from simclr_ext.trainer.config import AugmentConfig, ResolvedConfig
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.views.augment import Augment, crop_and_flip
from simclr_ext.trainer.views.batches import MemorySource


class OneBranchSource(MemorySource):
    """Images in memory; the first views are cropped, the second ones transformed on top.

    Args:
        images: [n, C, H, W] uint8.
        config: The run, resolved; of its augmentation, crop and flip apply to both branches.
        transform: Transformation of the second branch after the crop.

    Example:
        >>> from simclr_ext.trainer.config import TrainConfig
        >>> config = TrainConfig(batch_size=2).resolve(1, 8, 8)
        >>> source = OneBranchSource(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), config, sobel)
        >>> source.views(next(source.batches(0)), seed=0).shape
        torch.Size([4, 1, 16, 16])
    """

    def __init__(self, images: Tensor, config: ResolvedConfig, transform: Transform) -> None:
        super().__init__(images, config, crop_and_flip(config.augment, config.side))
        self._transform = transform

    def views(self, batch: Tensor, seed: int) -> Tensor:
        """Return views; see `simclr_ext.trainer.views.batches.Source`."""
        random = generator(seed, batch.device)
        cropped = self._augment(batch[:, 0], random)
        return torch.cat([cropped, self._transform(cropped, random)])


def targeted_transforms(config: AugmentConfig, size: int) -> dict[str, Transform]:
    """Return the transformations of figure 5 by name.

    Crop, color and blur are those of a run's augmentation, the blur always applied.

    Args:
        config: The run's augmentation, resolved.
        size: Side of the views in pixels.
    """
    still = dataclasses.replace(
        config,
        crop_probability=0.0,
        flip_probability=0.0,
        jitter_probability=0.0,
        grayscale_probability=0.0,
        blur_probability=0.0,
    )
    color = dataclasses.replace(
        still,
        jitter_probability=config.jitter_probability,
        grayscale_probability=config.grayscale_probability,
    )
    return {
        "crop": crop_and_flip(config, size),
        "cutout": cutout,
        "color": Augment(color, size),
        "sobel": sobel,
        "noise": gaussian_noise,
        "blur": Augment(dataclasses.replace(still, blur_probability=1.0), size),
        "rotate": random_rotate,
    }
