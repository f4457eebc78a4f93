"""Views: SimCLR's random transformations of the images of a batch.

Source: SimCLR (arXiv 2002.05709), appendix A.

All parameters of a batch are drawn first. On a CPU, the views are then made in pieces that fit into
the cache, with images whose color jitter has the same order next to each other: such a group shares
every operation, and no image is loaded from memory again for each of its operations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.job import Share
from simclr_ext.trainer.views.image_ops import (
    adjust_brightness_,
    adjust_contrast_,
    adjust_hue_,
    adjust_saturation_,
    gaussian_blur,
    grayscale_,
    hflip,
    resize_taps,
    separable_filter,
    to_float,
)
from simclr_ext.trainer.views.parameters import ViewParameters, draw_parameters

_PIECE_BYTES = 512 * 1024  # of float32 views; with temporaries, about a core's cache
# The steps of the color jitter, each with its neutral factor.
_JITTER = (
    (adjust_brightness_, 1.0),
    (adjust_contrast_, 1.0),
    (adjust_saturation_, 1.0),
    (adjust_hue_, 0.0),
)


class Augment:
    """Draws one random view of every image.

    Args:
        config: The operations' probabilities and strengths; `flip_probability` must be a number.
        size: Side of the views in pixels.

    Raises:
        ConfigError: `flip_probability` is None.

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
        self.size = size
        # The paper's 10 % of the side, made odd, and at least 3 pixels: 1 would not blur.
        self.blur_radius = max(1, size // 20)

    def __call__(self, images: Tensor, generator: Generator, share: Share | None = None) -> Tensor:
        """Return a view of each image.

        Args:
            images: [B, C, H, W], uint8, or floating in [0, 1], on any device. Saturation, hue and
                grayscale change color images only, C = 3.
            generator: Source of every random number. A generator on the CPU gives the same views
                for every device, and needs no synchronization with it.
            share: Which images these are of those for which parameters are drawn; None: all.

        Returns:
            Views, [B, C, size, size], float32 in [0, 1], on the images' device.
        """
        shape = images.shape if share is None else (share.of, *images.shape[1:])
        drawn = draw_parameters(self.config, shape, generator).cpu()
        if share is not None:
            drawn = drawn.part(share.rows)
        views = images.new_empty(*images.shape[:2], self.size, self.size, dtype=torch.float32)
        # Dispatch is faster in inference mode; `views` is made outside of it, because a backward
        # pass may save it.
        with torch.inference_mode():
            self._fill(views, images, drawn)
        return views

    def _fill(self, views: Tensor, images: Tensor, drawn: ViewParameters) -> None:
        cropped = self._cropped(images, drawn)
        for rows in _pieces(views, drawn.order):
            part = cropped(rows)
            _jitter_(part, drawn.order[rows], drawn.factors[:, rows])
            part = _apply_where(drawn.grayscale[rows], part, grayscale_)
            sigma = drawn.sigma[rows]
            part = _apply_where(drawn.blur[rows], part, gaussian_blur, sigma, self.blur_radius)
            views[rows] = part

    def _cropped(self, images: Tensor, drawn: ViewParameters) -> Callable[[slice | Tensor], Tensor]:
        """Return the function of some rows to their crops, mirrored and resized, in new memory."""
        height, width = images.shape[2:]
        if height == width == self.size and self.config.crop_probability == 0:  # crops of files
            own = images if images.dtype == torch.uint8 else images.clone()
            return lambda rows: _apply_where(drawn.flip[rows], to_float(own[rows]), hflip)
        vertical = resize_taps(drawn.top, drawn.height, height, self.size)
        horizontal = resize_taps(drawn.left, drawn.width, width, self.size, drawn.flip)

        def resized(rows: slice | Tensor) -> Tensor:
            # Pixels outside of the crops are not read.
            top, left = int(drawn.top[rows].min()), int(drawn.left[rows].min())
            bottom = int((drawn.top + drawn.height)[rows].max())
            right = int((drawn.left + drawn.width)[rows].max())
            return separable_filter(
                to_float(images[..., top:bottom, left:right][rows]),
                vertical[rows].relative_to(top).to(images.device),
                horizontal[rows].relative_to(left).to(images.device),
            )

        return resized


def crop_and_flip(config: AugmentConfig, size: int) -> Augment:
    """Return the augmentation of a resolved run without its color operations and blur."""
    return Augment(
        AugmentConfig(
            crop_ratio=config.crop_ratio,
            crop_area=config.crop_area,
            flip_probability=config.flip_probability,
            jitter_probability=0.0,
            grayscale_probability=0.0,
            blur_probability=0.0,
        ),
        size,
    )


def _pieces(views: Tensor, order: Tensor) -> Iterator[slice | Tensor]:
    """Yield the rows of the views to work on at a time; order [B, steps]."""
    if not _on_cpu(views):
        yield slice(None)  # on other devices, few large operations are faster than many small ones
        return
    length = _PIECE_BYTES // views[0].nbytes
    if length <= 1:
        yield from (slice(row, row + 1) for row in range(len(views)))
        return
    code = (order * len(_JITTER) ** torch.arange(order.shape[1])).sum(dim=1)
    yield from torch.split(code.argsort(stable=True), length)


def _jitter_(views: Tensor, order: Tensor, factors: Tensor) -> None:
    """Jitter the colors of views [b, C, H, W]; order [b, steps] and factors [steps, b] on the CPU.

    On other devices, all views go through all steps at every turn, most of them with the neutral
    factor: this costs little, and saves the kernel launches of separate groups.
    """
    if _on_cpu(views):
        _jitter_runs_(views, order, factors)
        return
    for turn, step in itertools.product(order.T, range(order.shape[1])):
        operation, neutral = _JITTER[step]
        factor = torch.where(turn == step, factors[step], neutral)
        operation(views, factor.to(views.device, non_blocking=True))


def _jitter_runs_(views: Tensor, order: Tensor, factors: Tensor) -> None:
    """Jitter each group of consecutive views that have the same order."""
    stop = 0
    for turns, run in itertools.groupby(order.tolist()):
        start, stop = stop, stop + len(list(run))
        for step in turns:
            if step >= 0:
                operation, _ = _JITTER[step]
                operation(views[start:stop], factors[step, start:stop])


def _on_cpu(views: Tensor) -> bool:
    return views.device.type == "cpu"


def _apply_where(
    mask: Tensor, views: Tensor, operation: Callable[..., Tensor], *parameters: Any
) -> Tensor:
    """Return the views; those where `mask` [b] is true are replaced by the operation's result.

    Tensors among the parameters are [b]; they and the mask are on the CPU.
    """
    rows = mask.nonzero().squeeze(1)
    if len(rows) == 0:
        return views
    parameters = tuple(p[rows] if isinstance(p, Tensor) else p for p in parameters)
    if len(rows) == len(views):
        return operation(views, *parameters)
    rows = rows.to(views.device, non_blocking=True)
    views[rows] = operation(views[rows], *parameters)
    return views
