"""Image operations on a whole batch, each image with its own parameters.

Each equals its namesake of torchvision.transforms.v2.functional, applied image by image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as in torchvision


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1], and floating ones as float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def resized_crop(
    images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: int
) -> Tensor:
    """Return crops resized to a square by antialiased bilinear interpolation.

    Resizing is linear and separable, so it is one product with a matrix per image and axis.

    Args:
        images: [B, C, H, W], floating.
        top: First row of each crop, [B].
        left: First column of each crop, [B].
        height: Rows of each crop, [B].
        width: Columns of each crop, [B].
        size: Side of the result in pixels.

    Returns:
        [B, C, size, size], of the images' dtype.
    """
    rows = _resize_matrix(top, height, images.shape[2], size)[:, None]  # [B, 1, size, H]
    columns = _resize_matrix(left, width, images.shape[3], size)[:, None]  # [B, 1, size, W]
    return rows.to(images) @ images @ columns.to(images).mT


def resize(images: Tensor, size: int) -> Tensor:
    """Return whole images [B, C, H, W], uint8 or floating, as float32 [B, C, size, size]."""
    batch, _, height, width = images.shape
    start = torch.zeros(batch, device=images.device)
    return resized_crop(to_float(images), start, start, start + height, start + width, size)


def _resize_matrix(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return [B, size, side]: the weights of the side's pixels in each pixel of the result."""
    start, length = start[:, None, None].double(), length[:, None, None].double()
    target = torch.arange(size, device=start.device)[:, None]  # [size, 1]
    source = torch.arange(side, device=start.device)  # [side]
    scale = length / size
    centre = start + (target + 0.5) * scale  # [B, size, 1], in source pixels
    # The triangle widens when it shrinks the image: that is the antialiasing.
    weights = (1 - (source + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((start <= source) & (source < start + length))
    return weights / weights.sum(dim=2, keepdim=True)


def horizontal_flip(images: Tensor) -> Tensor:
    """Return images mirrored left to right, [B, C, H, W]."""
    return images.flip(-1)


def grayscale(images: Tensor) -> Tensor:
    """Return the luma of colour images [B, 3, H, W] in all three channels."""
    return _luma(images).expand_as(images)


def _luma(images: Tensor) -> Tensor:
    """Return [B, 1, H, W]; grey images are their own luma."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return factor * images + (1 - factor) * other, clamped to [0, 1]; factor [B]."""
    return torch.lerp(other, images, factor[:, None, None, None]).clamp(0, 1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Return images [B, C, H, W] times factor [B], clamped to [0, 1]."""
    return (images * factor[:, None, None, None]).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Return images [B, C, H, W] moved from their mean luma by factor [B]."""
    return _blend(images, _luma(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Return colour images [B, 3, H, W] moved from their own luma by factor [B]."""
    return _blend(images, _luma(images), factor)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Return colour images [B, 3, H, W] with the hue turned by shift [B] of a full turn.

    The way back from hue h, value v and chroma c needs no table: channel n (5, 3, 1 for red, green,
    blue) is v - c clamp(min(k, 4 - k), 0, 1) with k = (n + 6 h) mod 6.
    """
    value, brightest = images.max(dim=1)  # [B, H, W]
    chroma = value - images.amin(dim=1)
    red, green, blue = images.unbind(dim=1)
    sixths = torch.stack([green - blue, blue - red, red - green], dim=1)
    sixths = sixths.gather(1, brightest[:, None]).squeeze(1)
    # Where the chroma is 0 the hue is arbitrary, and its weight below is 0 as well.
    sixths = sixths / torch.where(chroma > 0, chroma, 1) + 2 * brightest
    n = images.new_tensor([5, 3, 1])[:, None, None]
    k = (n + (sixths + 6 * shift[:, None, None])[:, None]) % 6  # [B, 3, H, W]
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Return images blurred by a Gaussian of 2 radius + 1 pixels, the border reflected.

    Args:
        images: [B, C, H, W], floating, with sides above `radius`.
        sigma: Standard deviation in pixels, [B].
        radius: Reach of the kernel in pixels.

    Returns:
        [B, C, H, W], of the images' dtype.
    """
    batch, channels, height, width = images.shape
    offsets = torch.arange(-radius, radius + 1, device=images.device).to(images)
    kernel = (-0.5 * (offsets / sigma[:, None]) ** 2).softmax(dim=1)  # [B, taps]
    kernel = kernel.repeat_interleave(channels, dim=0)[:, None, None]  # [B C, 1, 1, taps]
    padded = F.pad(images, [radius] * 4, mode="reflect")
    planes = padded.reshape(1, batch * channels, *padded.shape[2:])  # every plane its own kernel
    planes = F.conv2d(planes, kernel, groups=batch * channels)
    planes = F.conv2d(planes, kernel.mT, groups=batch * channels)
    return planes.reshape(batch, channels, height, width)
