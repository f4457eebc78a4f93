"""AutoAugment (arXiv 1805.09501) after crop and flip, as a view of SimCLR (table 1)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torchvision.transforms import v2

from simclr_ext.studies.engine.scales import SMALL_IMAGES
from simclr_ext.trainer.seeds import seeded
from simclr_ext.trainer.views.augment import Augment
from simclr_ext.trainer.views.image_ops import to_float


class AutoAugment:
    """Draws one view of every image: crop and flip, then a random sub-policy.

    Args:
        crop: Crop and flip.

    Example:
        >>> from simclr_ext.trainer.config import AugmentConfig
        >>> from simclr_ext.trainer.views.augment import crop_and_flip
        >>> augment = AutoAugment(crop_and_flip(AugmentConfig(flip_probability=0.5), size=16))
        >>> images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> augment(images, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 16, 16])
    """

    def __init__(self, crop: Augment) -> None:
        small = crop.size <= SMALL_IMAGES
        policies = v2.AutoAugmentPolicy
        self._crop = crop
        self._policy = v2.AutoAugment(policies.CIFAR10 if small else policies.IMAGENET)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return views [B, C, size, size], float32 in [0, 1]; see `Augment`."""
        views = (self._crop(images, generator) * 255).round().to(torch.uint8)
        seed = torch.randint(2**63 - 1, (), device=generator.device, generator=generator)
        with seeded(int(seed), views.device):  # torchvision draws from the global random state
            return to_float(torch.stack([self._policy(view) for view in views]))
