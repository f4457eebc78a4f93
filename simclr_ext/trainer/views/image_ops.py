"""Image operations on a whole batch, each image with its own parameters.

Each gives the result of the function of the same name in torchvision.transforms.v2.functional,
applied image by image. Functions whose names end with an underscore work in place.

Resizing and blurring are linear, separable and local: a pixel of the result is a weighted sum of T
neighbors along each axis. Such a filter is stored as its taps, and `embedding_bag` computes a row
of the result, a weighted sum of rows, in one pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as in torchvision


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1], and floating ones as float32."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


@dataclass(frozen=True)
class Taps:
    """A linear filter along one axis, different for each image of a batch.

    Attributes:
        index: [B, size, T] int64: the T input pixels of each pixel of the result.
        weight: [B, size, T] float32: their weights.
    """

    index: Tensor
    weight: Tensor

    def __getitem__(self, images: Tensor | slice) -> Taps:
        """Return the filters of some of the images."""
        return Taps(self.index[images], self.weight[images])

    def relative_to(self, start: int) -> Taps:
        """Return the filters for an axis whose first `start` pixels are cut off."""
        return Taps(self.index - start, self.weight)

    def to(self, device: torch.device) -> Taps:
        """Return the filters on a device."""
        index, weight = (t.to(device, non_blocking=True) for t in (self.index, self.weight))
        return Taps(index, weight)


def resize_taps(
    start: Tensor, length: Tensor, side: int, size: int, flip: Tensor | None = None
) -> Taps:
    """Return the filter that crops an interval and resizes it, bilinear and antialiased.

    Args:
        start: First pixel of each interval, [B].
        length: Number of pixels of each interval, [B].
        side: Pixels of the axis; the intervals lie within.
        size: Pixels of the result.
        flip: Whether to mirror each result, [B] booleans.
    """
    start, length = start[:, None].double(), length[:, None].double()  # [B, 1]
    target = torch.arange(size, device=start.device).expand(len(start), -1)
    if flip is not None:
        target = torch.where(flip[:, None], size - 1 - target, target)  # [B, size]
    scale = length / size
    center = start + (target + 0.5) * scale  # in source pixels
    # When the image shrinks, the triangle widens: this is the antialiasing.
    reach = scale.clamp(min=1)
    first = (center - reach - 0.5).floor() + 1
    taps = math.ceil(2 * max(1.0, side / size))  # at most this many pixel centers are in reach
    source = first[..., None] + torch.arange(taps, device=start.device)  # [B, size, T]
    weight = (1 - (source + 0.5 - center[..., None]).abs() / reach[..., None]).clamp_(min=0)
    inside = source.clamp(start[..., None], (start + length - 1)[..., None])
    weight *= source == inside
    weight /= weight.sum(dim=2, keepdim=True)
    return Taps(inside.long(), weight.float())


def blur_taps(sigma: Tensor, side: int, radius: int) -> Taps:
    """Return the Gaussian filter of 2 radius + 1 pixels, the border reflected.

    Args:
        sigma: Standard deviation in pixels, [B].
        side: Pixels of the axis, above `radius`.
        radius: Reach of the kernel in pixels.
    """
    # Beyond 5.5 standard deviations, a pixel's weight is below the rounding of float32.
    radius = min(radius, math.ceil(5.5 * float(sigma.max())))
    offset = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = (-0.5 * (offset / sigma[:, None]) ** 2).softmax(dim=1)  # [B, T]
    source = (torch.arange(side, device=sigma.device)[:, None] + offset).abs()
    source = (side - 1) - (side - 1 - source).abs()  # [side, T]
    shape = (len(sigma), side, len(offset))
    return Taps(source.expand(shape), kernel[:, None].expand(shape))


def separable_filter(images: Tensor, vertical: Taps, horizontal: Taps) -> Tensor:
    """Return images [B, C, H, W], floating, filtered along both axes, [B, C, size, size].

    The result is stored column by column, as one pass along each axis leaves it: it is the
    transpose, `mT`, of a contiguous tensor. This makes no difference to pixelwise operations.
    """
    half_done = _filter_rows(images, vertical).mT.contiguous()
    return _filter_rows(half_done, horizontal).mT


def _filter_rows(images: Tensor, taps: Taps) -> Tensor:
    """Return [B, C, size, W]: every row a weighted sum of the rows of [B, C, H, W]."""
    batch, channels, height, width = images.shape
    first = torch.arange(0, batch * channels * height, height, device=images.device)
    index = taps.index[:, None] + first.view(batch, channels, 1, 1)  # [B, C, size, T]
    weight = taps.weight[:, None].expand_as(index)
    rows = F.embedding_bag(
        index.flatten(0, 2),
        images.reshape(-1, width),
        per_sample_weights=weight.reshape(-1, index.shape[3]).to(images.dtype),
        mode="sum",
    )
    return rows.view(batch, channels, -1, width)


def resize(images: Tensor, size: int) -> Tensor:
    """Return whole images [B, C, H, W], uint8 or floating, as float32 [B, C, size, size]."""
    batch, _, height, width = images.shape
    if (height, width) == (size, size):
        return to_float(images)
    start = torch.zeros(batch, device=images.device)
    vertical = resize_taps(start, start + height, height, size)
    horizontal = resize_taps(start, start + width, width, size)
    return separable_filter(to_float(images), vertical, horizontal).contiguous()


def hflip(images: Tensor) -> Tensor:
    """Return images [B, C, H, W] mirrored."""
    return images.flip(3)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Return images blurred by a Gaussian of 2 radius + 1 pixels, the border reflected.

    Args:
        images: [B, C, H, W], floating, with sides above `radius`.
        sigma: Standard deviation in pixels, [B]; best on the CPU, which needs its maximum.
        radius: Reach of the kernel in pixels.

    Returns:
        [B, C, H, W], of the images' dtype.
    """
    height, width = images.shape[2:]
    vertical = blur_taps(sigma, height, radius).to(images.device)
    horizontal = blur_taps(sigma, width, radius).to(images.device)
    if images.is_contiguous():
        return separable_filter(images, vertical, horizontal)
    # Transposed twice: resized views are stored by columns, see `separable_filter`.
    return separable_filter(images.mT, horizontal, vertical).mT


def grayscale_(images: Tensor) -> Tensor:
    """Set all three channels of color images [B, 3, H, W] to their luma."""
    return images.copy_(_luma(images))


def _luma(images: Tensor) -> Tensor:
    """Return the luma of color images, [B, 1, H, W]."""
    red, green, blue = torch.split(images, 1, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def adjust_brightness_(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply images [B, C, H, W] by factor [B]; the result is clamped to [0, 1]."""
    return images.mul_(_per_image(factor)).clamp_(0, 1)


def adjust_contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend images [B, C, H, W] with their mean by factor [B], clamped to [0, 1].

    The mean is the luma's for color images. In images of other kinds, each channel has its own.
    """
    means = images.mean(dim=(2, 3), keepdim=True)  # [B, C, 1, 1]; the luma is linear
    return _blend_(images, _luma(means) if images.shape[1] == 3 else means, factor)


def adjust_saturation_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend color images [B, 3, H, W] with their own luma by factor [B], clamped to [0, 1]."""
    return _blend_(images, _luma(images), factor)


def _blend_(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Set images to factor * images + (1 - factor) * other, clamped to [0, 1]; factor [B]."""
    factor = _per_image(factor)
    return images.mul_(factor).add_(other * (1 - factor)).clamp_(0, 1)


def adjust_hue_(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of color images [B, 3, H, W] by shift [B] of a full turn, |shift| <= 1/3.

    With value v, smallest channel m and chroma c = v - m, the hue in sixths of a turn, in [-3, 3]
    and 0 at red, is e = sign(g - b) (1 + (g + b - r - m) / c). After rotation, a channel whose own
    hue is a (0, 2, -2 for red, green, blue) becomes

        v - c clamp(2 - ||e - a| - 3|, 0, 1) = v - 2 c + c clamp(||e - a| - 3|, 1, 2),

    which needs no remainder as long as |e - a| <= 7.
    """
    red, green, blue = torch.split(images, 1, dim=1)  # [B, 1, H, W] each
    value, least = torch.maximum(red, green), torch.minimum(red, green)
    torch.maximum(value, blue, out=value)
    torch.minimum(least, blue, out=least)
    chroma = value - least
    hue = torch.add(green, blue).sub_(red).sub_(least)
    # Where the chroma is 0, the hue is arbitrary, and its weight below is 0.
    hue.div_(chroma.clamp(min=torch.finfo(images.dtype).tiny)).add_(1).copysign_(green - blue)
    hue.add_(_per_image(6 * shift))
    floor = value.sub_(chroma, alpha=2)
    for channel, own in zip((red, green, blue), (0, 2, -2), strict=True):
        ramp = torch.sub(hue, own).abs_().sub_(3).abs_().clamp_(1, 2)
        torch.addcmul(floor, chroma, ramp, out=channel)
    return images


def _per_image(numbers: Tensor) -> Tensor:
    """Return [B] as [B, 1, 1, 1], to broadcast with images."""
    return numbers[:, None, None, None]
