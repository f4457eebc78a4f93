"""Every concession to an older torch, with the version from which it can go away.

The lowest is that of pyproject.toml; csrc/common/torch_compat.h has those of C++.
"""

from __future__ import annotations

import torch

# torch 2.8. Operators that wait for the device, which no CUDA graph may hold. Before the tag,
# torch.compile(mode="reduce-overhead") cannot be told.
OPERATOR_TAGS: tuple[torch.Tag, ...] = (
    (torch.Tag.cudagraph_unsafe,) if hasattr(torch.Tag, "cudagraph_unsafe") else ()
)
