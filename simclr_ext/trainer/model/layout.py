"""The memory format of images and weights: channels last, unless a bug of oneDNN forbids it.

On a CPU, oneDNN's weight gradient of a strided 1 x 1 convolution writes past the end of its scratch
memory if images are channels-last and have fewer channels than the processor's vectors hold floats:
16 with AVX-512, 8 with AVX2. docs/onednn.md has the details.
"""

from __future__ import annotations

import torch
from torch import nn

_FLOATS = 16  # of the widest vectors


def memory_format(model: nn.Module, channels_last: bool) -> torch.memory_format:
    """Return the memory format in which a model is computed: the requested one, or contiguous.

    Args:
        model: A network; if a convolution of it triggers oneDNN's bug, the format is contiguous.
        channels_last: Whether channels last is requested.

    Example:
        >>> memory_format(nn.Conv2d(8, 16, 1, stride=2), channels_last=True)
        torch.contiguous_format
        >>> memory_format(nn.Conv2d(16, 32, 1, stride=2), channels_last=True)
        torch.channels_last
    """
    if channels_last and not any(map(_corrupts_memory, model.modules())):
        return torch.channels_last
    return torch.contiguous_format


def _corrupts_memory(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels // layer.groups < _FLOATS
    )
