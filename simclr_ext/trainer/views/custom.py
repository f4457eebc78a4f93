"""An augmentation of the user's own: a function of a batch and a random generator to views."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from simclr_ext.options.errors import ConfigError, MissingArgumentError
from simclr_ext.trainer.config import AugmentConfig, ResolvedConfig
from simclr_ext.trainer.seeds import Stream, derive_seed, generator, seeded

MakeViews = Callable[[Tensor, Generator], Tensor]
"""Maps images [n, C, H, W] uint8 and a generator to a view of each, [n, C, side, side] float32 in
[0, 1], on the images' device. Equal states of the generator must give equal views."""


def each_image(transform: Callable[[Tensor], Tensor]) -> MakeViews:
    """Return the augmentation that applies a transform to every image; see `simclr_ext.trainer`."""

    def make_views(images: Tensor, random: Generator) -> Tensor:
        # The transform draws from PyTorch's global state, so that is seeded from the generator.
        drawn = torch.randint(2**63 - 1, (), generator=random, device=random.device)
        with seeded(int(drawn), images.device):
            views = torch.stack([transform(image) for image in images])
        return views / 255 if views.dtype == torch.uint8 else views

    return make_views


def check_given(make_views: MakeViews | None, config: AugmentConfig) -> None:
    """Raise an error unless an augmentation is given where, and only where, a run has its own."""
    if config.custom and make_views is None:
        raise MissingArgumentError(
            "the augmentation is a function of your own: pass it from Python, as the argument "
            "`augment`"
        )
    if make_views is not None and not config.custom:
        raise ConfigError("augment must be None for a run whose configuration has its augmentation")
    if make_views is not None and not callable(make_views):
        raise ConfigError(f"augment must be a function, got a {type(make_views).__name__}")


def check_views(make_views: MakeViews, images: Tensor, config: ResolvedConfig) -> None:
    """Raise ConfigError unless an augmentation makes views as the training needs them.

    Args:
        make_views: The augmentation.
        images: Some images of the run, [n, C, H, W] uint8.
        config: The run.
    """
    seed = derive_seed(config.seed, Stream.VIEWS)
    views, again = (make_views(images, generator(seed, images.device)) for _ in range(2))
    if not isinstance(views, Tensor):
        raise ConfigError(f"augment must return a tensor, got a {type(views).__name__}")
    shape = (len(images), config.channels, config.side, config.side)
    if views.shape != shape or views.dtype != torch.float32 or views.device != images.device:
        raise ConfigError(
            f"augment must return float32 views {list(shape)} on {images.device} for images "
            f"{list(images.shape)}, got {list(views.shape)} {views.dtype} on {views.device}"
        )
    low, high = views.min().item(), views.max().item()
    if not 0 <= low <= high <= 1:  # not true of NaN
        raise ConfigError(f"augment must return values in [0, 1], got {low:g} to {high:g}")
    if not torch.equal(views, again):
        raise ConfigError(
            "augment must draw every random number from its generator, got two different views "
            "from equal states of it; simclr_ext.trainer.each_image does so for transforms that "
            "draw from PyTorch's global state"
        )
