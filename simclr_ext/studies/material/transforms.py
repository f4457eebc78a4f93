"""Transformations of views that the trainer's augmentation does not have, batch by batch.

Source: SimCLR (arXiv 2002.05709), section 3.1 and figure 4. The comments of the constants give the
source of sizes and strengths that the paper does not state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from simclr_ext.trainer.views.image_ops import grayscale_

Transform = Callable[[Tensor, Generator], Tensor]
"""Maps views [B, C, S, S], float32 in [0, 1], and a random generator to new views of the same
shape. The input is not changed."""

CUTOUT_SHARE = 0.5  # of the side: DeVries and Taylor, arXiv 1708.04552, on CIFAR-10
CUTOUT_VALUE = 0.5  # ours: the middle of [0, 1]; theirs is the middle of normalized images
NOISE_STD = 0.1  # ours: visible, and the image stays recognizable


def compose(transforms: Sequence[Transform]) -> Transform:
    """Return the composition of transformations in order; the identity if there are none."""

    def composed(views: Tensor, generator: Generator) -> Tensor:
        for transform in transforms:
            views = transform(views, generator)
        return views

    return composed


def cutout(views: Tensor, generator: Generator) -> Tensor:
    """Cover a square of every view, with a random center, so that it may extend beyond the view.

    Example:
        >>> views = cutout(torch.zeros(1, 1, 4, 4), torch.Generator().manual_seed(1))
        >>> sorted(set(views.flatten().tolist()))
        [0.0, 0.5]
    """
    batch, _, height, width = views.shape
    covered = _interval(batch, height, generator)[:, :, None]  # [B, H, 1]
    covered = covered & _interval(batch, width, generator)[:, None, :]  # [B, H, W]
    return views.masked_fill(covered[:, None].to(views.device), CUTOUT_VALUE)


def _interval(batch: int, side: int, generator: Generator) -> Tensor:
    """Return the pixels of an axis that a random interval covers, [batch, side] booleans."""
    length = max(1, round(CUTOUT_SHARE * side))
    shape, device = (batch, 1), generator.device
    center = torch.randint(side, shape, device=device, generator=generator)
    start = center - length // 2
    pixel = torch.arange(side, device=device)
    return (pixel >= start) & (pixel < start + length)


def rotate(views: Tensor, turns: Tensor) -> Tensor:
    """Rotate every view counterclockwise by its number of quarter turns.

    Args:
        views: [B, C, S, S].
        turns: [B] int64, any integers.

    Example:
        >>> views = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> rotate(views, torch.tensor([1]))[0, 0].tolist()
        [[2.0, 4.0], [1.0, 3.0]]
    """
    rotated = torch.empty_like(views)
    for quarter in range(4):
        rows = (turns % 4 == quarter).nonzero().squeeze(1).to(views.device)
        rotated[rows] = views[rows].rot90(quarter, dims=(2, 3))
    return rotated


def random_rotate(views: Tensor, generator: Generator) -> Tensor:
    """Rotate every view by 0, 90, 180 or 270 degrees, with equal chances."""
    turns = torch.randint(4, (len(views),), device=generator.device, generator=generator)
    return rotate(views, turns)


def sobel(views: Tensor, generator: Generator | None = None) -> Tensor:
    r"""Replace views by the strength of their edges, the same in all channels.

    With g the luma and g_x, g_y its correlations with Sobel's kernels, borders replicated,

    .. math:: \min(\sqrt{g_x^2 + g_y^2} / 4, 1)

    which is 1 at a straight step from black to white.

    Args:
        views: [B, C, H, W].
        generator: Not used; nothing here is random.
    """
    luma = (grayscale_(views.clone()) if views.shape[1] == 3 else views)[:, :1]
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([kernel, kernel.T])[:, None].to(views)  # [2, 1, 3, 3]
    slopes = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), kernels)  # [B, 2, H, W]
    edges: Tensor = (slopes.norm(dim=1, keepdim=True) / 4).clamp_(max=1)
    return edges.expand_as(views).contiguous()


def gaussian_noise(views: Tensor, generator: Generator) -> Tensor:
    """Add independent Gaussian noise to every value, clamped to [0, 1]."""
    noise = torch.randn(views.shape, device=generator.device, generator=generator)
    return (views + NOISE_STD * noise.to(views.device)).clamp_(0, 1)


def grayscale(views: Tensor, generator: Generator | None = None) -> Tensor:
    """Convert color views to gray; nothing here is random."""
    return grayscale_(views.clone())
