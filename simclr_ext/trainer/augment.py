"""Views: SimCLR's random transformations, drawn for each image of a batch.

Source: SimCLR (arXiv 2002.05709), appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.errors import ConfigError
from simclr_ext.trainer.image_ops import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    gaussian_blur,
    grayscale,
    horizontal_flip,
    resized_crop,
    to_float,
)

_CROP_TRIES = 10  # as in torchvision


class Augment:
    """Draws one random view of every image.

    Args:
        config: The operations' probabilities and strengths; `flip_probability` must be a number.
        size: Side of the views in pixels.

    Example:
        >>> augment = Augment(AugmentConfig(flip_probability=0.5), size=16)
        >>> images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> augment(images, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 16, 16])
    """

    def __init__(self, config: AugmentConfig, size: int) -> None:
        if config.flip_probability is None:
            raise ConfigError("augment.flip_probability is None: resolve the configuration first")
        self.config = config
        self.flip_probability = config.flip_probability
        self.size = size
        # The paper's 10 % of the side, made odd, and no less than the 3 pixels that blur at all.
        self.blur_radius = max(1, size // 20)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return a view of each image.

        Args:
            images: [B, C, H, W] with C = 1 or 3, uint8, or floating in [0, 1].
            generator: Source of every random number, on the images' device.

        Returns:
            Views, [B, C, size, size], float32 in [0, 1].
        """
        config = self.config
        batch, channels, height, width = images.shape
        crop = random_crop(batch, height, width, config, generator)
        views = resized_crop(to_float(images), *crop, self.size)
        if self.flip_probability > 0:
            flipped = _chosen(batch, self.flip_probability, generator)
            _apply_to(flipped, views, horizontal_flip)
        if config.jitter_probability > 0 and config.jitter_strength > 0:
            self._jitter(views, generator)
        if config.grayscale_probability > 0 and channels == 3:
            _apply_to(_chosen(batch, config.grayscale_probability, generator), views, grayscale)
        if config.blur_probability > 0:
            blurred = _chosen(batch, config.blur_probability, generator)
            sigma = _uniform(batch, *config.blur_sigma, generator)
            _apply_to(blurred, views, gaussian_blur, sigma, radius=self.blur_radius)
        return views

    def _jitter(self, views: Tensor, generator: Generator) -> None:
        batch, channels = views.shape[:2]
        strong, weak = 0.8 * self.config.jitter_strength, 0.2 * self.config.jitter_strength
        steps: list[tuple[Callable[..., Tensor], Tensor]] = [
            (adjust_brightness, _uniform(batch, 1 - strong, 1 + strong, generator)),
            (adjust_contrast, _uniform(batch, 1 - strong, 1 + strong, generator)),
        ]
        if channels == 3:
            steps += [
                (adjust_saturation, _uniform(batch, 1 - strong, 1 + strong, generator)),
                (adjust_hue, _uniform(batch, -weak, weak, generator)),
            ]
        jittered = _chosen(batch, self.config.jitter_probability, generator)
        keys = torch.rand(batch, len(steps), device=views.device, generator=generator)
        order = keys.argsort(dim=1)  # [B, steps]: each image has its own order
        for turn in order.unbind(dim=1):
            for index, (operation, factor) in enumerate(steps):
                _apply_to(jittered & (turn == index), views, operation, factor)


def _uniform(batch: int, low: float, high: float, generator: Generator) -> Tensor:
    """Return [B] numbers from [low, high)."""
    numbers = torch.rand(batch, device=generator.device, generator=generator)
    return low + (high - low) * numbers


def _chosen(batch: int, probability: float, generator: Generator) -> Tensor:
    """Return [B] booleans that hold with the given probability."""
    return _uniform(batch, 0, 1, generator) < probability


def _apply_to(
    mask: Tensor, views: Tensor, operation: Callable[..., Tensor], *parameters: Tensor, **fixed: int
) -> None:
    """Replace, in place, the views where `mask` [B] holds by the operation's result."""
    rows = mask.nonzero().squeeze(1)
    if len(rows) > 0:
        views[rows] = operation(views[rows], *(p[rows] for p in parameters), **fixed)


def random_crop(
    batch: int, height: int, width: int, config: AugmentConfig, generator: Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw a crop per image with the distribution of torchvision's RandomResizedCrop.

    Area uniform, log of the aspect ratio uniform, position uniform; a crop that does not fit is
    drawn again, up to ten times, and then is the largest central one of an allowed ratio.

    Returns:
        Top, left, height and width in pixels, each [batch], int64.
    """
    device = generator.device
    area, ratio = (
        torch.rand(_CROP_TRIES, batch, device=device, generator=generator) * (high - low) + low
        for low, high in (config.crop_area, tuple(map(math.log, config.crop_ratio)))
    )
    area, ratio = area * (height * width), ratio.exp()
    widths = (area * ratio).sqrt().round().long()  # [tries, B]
    heights = (area / ratio).sqrt().round().long()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(dim=0, keepdim=True)  # [1, B], the first try that fits

    low, high = config.crop_ratio
    central_width = min(width, round(height * high))
    central_height = min(height, round(width / low))
    cropped = _chosen(batch, config.crop_probability, generator)
    fitted = fits.any(dim=0)

    def select(tries: Tensor, central: int, whole: int) -> Tensor:
        drawn = torch.where(fitted, tries.gather(0, first).squeeze(0), central)
        return torch.where(cropped, drawn, whole)

    h, w = select(heights, central_height, height), select(widths, central_width, width)
    place = torch.rand(2, batch, device=device, generator=generator)
    central = cropped & ~fitted
    top = torch.where(central, (height - h) // 2, (place[0] * (height - h + 1)).long())
    left = torch.where(central, (width - w) // 2, (place[1] * (width - w + 1)).long())
    return top, left, h, w
