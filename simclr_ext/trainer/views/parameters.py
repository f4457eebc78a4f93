"""The random parameters of views, drawn for a whole batch at once.

Source: SimCLR (arXiv 2002.05709), appendix A; the distributions are torchvision's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import AugmentConfig

_CROP_TRIES = 10  # as in torchvision


@dataclass(frozen=True)
class ViewParameters:
    """The parameters of a batch of views, [B] each, except for two of the color jitter.

    Attributes:
        top: First row of the crop.
        left: First column of the crop.
        height: Rows of the crop.
        width: Columns of the crop.
        flip: Whether the view is mirrored.
        order: [B, steps], the step of the jitter at each turn; -1 if there is no jitter.
        factors: [steps, B], for the steps brightness, contrast, saturation, hue; only color
            images have the last two.
        grayscale: Whether the view is converted to gray.
        blur: Whether the view is blurred.
        sigma: Standard deviation of the blur in pixels.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    order: Tensor
    factors: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor

    def cpu(self) -> ViewParameters:
        """Return the parameters on the CPU."""
        return ViewParameters(**{f.name: getattr(self, f.name).cpu() for f in fields(self)})

    def part(self, rows: slice) -> ViewParameters:
        """Return the parameters of some of the views."""
        parts = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "factors"}
        return ViewParameters(**parts, factors=self.factors[:, rows])


def draw_parameters(
    config: AugmentConfig, shape: tuple[int, ...], generator: Generator
) -> ViewParameters:
    """Return the random parameters of one view of each image.

    Args:
        config: The operations' probabilities and strengths; `flip_probability` must be a number.
        shape: [B, C, H, W] of the images.
        generator: Source of every random number.
    """
    if config.flip_probability is None:
        raise ConfigError("augment.flip_probability is None: resolve the configuration first")
    batch, channels, height, width = shape
    top, left, rows, columns = random_crop(batch, height, width, config, generator)
    strong, weak = 0.8 * config.jitter_strength, 0.2 * config.jitter_strength
    ranges = [(1 - strong, 1 + strong)] * 2
    if channels == 3:
        ranges += [(1 - strong, 1 + strong), (-weak, weak)]
    # Sorting random keys gives each image its own order.
    keys = torch.rand(batch, len(ranges), device=generator.device, generator=generator)
    jitter = _chosen(batch, config.jitter_probability, generator)
    return ViewParameters(
        top,
        left,
        rows,
        columns,
        flip=_chosen(batch, config.flip_probability, generator),
        order=torch.where(jitter[:, None], keys.argsort(dim=1), -1),
        factors=torch.stack([_uniform(batch, *limits, generator) for limits in ranges]),
        grayscale=_chosen(batch, config.grayscale_probability if channels == 3 else 0, generator),
        blur=_chosen(batch, config.blur_probability, generator),
        sigma=_uniform(batch, *config.blur_sigma, generator),
    )


def _uniform(batch: int, low: float, high: float, generator: Generator) -> Tensor:
    """Return [B] numbers from [low, high)."""
    numbers = torch.rand(batch, device=generator.device, generator=generator)
    return low + (high - low) * numbers


def _chosen(batch: int, probability: float, generator: Generator) -> Tensor:
    """Return [B] booleans that are true with the given probability."""
    return _uniform(batch, 0, 1, generator) < probability


def random_crop(
    batch: int, height: int, width: int, config: AugmentConfig, generator: Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw a crop per image with the distribution of torchvision's RandomResizedCrop.

    Area uniform, log of the aspect ratio uniform, position uniform; a crop that does not fit is
    drawn again, up to ten times; after that it is the largest center crop of an allowed ratio.

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
