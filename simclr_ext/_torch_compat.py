"""All workarounds for older versions of torch, each with the version that makes it unnecessary.

The oldest supported version is in pyproject.toml; csrc/common/torch_compat.h has the C++ part.
"""

from __future__ import annotations

import torch

# torch 2.8. The operators read the temperature from host memory, which a CUDA graph would record as
# a constant. Without the tag, torch.compile(mode="reduce-overhead") already refuses CUDA graphs
# with a tensor on the CPU.
OPERATOR_TAGS: tuple[torch.Tag, ...] = (
    (torch.Tag.cudagraph_unsafe,) if hasattr(torch.Tag, "cudagraph_unsafe") else ()
)

# torch 2.8. Products of half matrices with float32 results, on CUDA.
HAS_PRODUCTS_OF_HALVES: bool = hasattr(torch.ops.aten.mm, "dtype_out")
