"""Every concession to an older torch, with the version from which it can go away.

The lowest is that of pyproject.toml; csrc/common/torch_compat.h has those of C++.
"""

from __future__ import annotations

import torch

# torch 2.8. The operators read the temperature in the host's memory, which a CUDA graph would keep
# as it was. Before the tag, torch.compile(mode="reduce-overhead") takes no graph with a tensor on
# the CPU.
OPERATOR_TAGS: tuple[torch.Tag, ...] = (
    (torch.Tag.cudagraph_unsafe,) if hasattr(torch.Tag, "cudagraph_unsafe") else ()
)

# torch 2.8. Products of half matrices with float32 results, on CUDA.
HAS_PRODUCTS_OF_HALVES: bool = hasattr(torch.ops.aten.mm, "dtype_out")
