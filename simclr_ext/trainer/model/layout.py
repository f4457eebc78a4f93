"""How images and weights lie in memory: by channels or by pixels, and where oneDNN forbids that.

On a CPU, oneDNN's backward pass by the weights of a convolution of 1 x 1 with a stride writes past
the end of its scratch memory if images lie by pixels (channels last) and have fewer channels than
the processor's vectors hold floats: 16 with AVX-512, 8 with AVX2. docs/onednn.md has the details.
"""

from __future__ import annotations

import torch
from torch import nn

_FLOATS = 16  # of the widest vectors


def memory_format(model: nn.Module, channels_last: bool) -> torch.memory_format:
    """Return the layout in which a model is computed: what was asked for, or contiguous.

    Args:
        model: A network; with a convolution that meets oneDNN's fault, all of it is contiguous.
        channels_last: Whether the channels of a pixel shall lie side by side.

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
