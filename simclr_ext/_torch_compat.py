"""What depends on torch's version or is not public: each with the version, or with its reason.

The oldest supported version is in pyproject.toml; csrc/common/torch_compat.h has the C++ part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

# torch 2.8. Of operators that read scalars from host memory, which a CUDA graph would record as
# constants: all but the compiled ones. Without the tag, torch.compile(mode="reduce-overhead")
# already refuses CUDA graphs with a tensor on the CPU.
OPERATOR_TAGS: tuple[torch.Tag, ...] = (
    (torch.Tag.cudagraph_unsafe,) if hasattr(torch.Tag, "cudagraph_unsafe") else ()
)

# torch 2.8. Products of half matrices with float32 results, on CUDA.
HAS_PRODUCTS_OF_HALVES: bool = hasattr(torch.ops.aten.mm, "dtype_out")

# Not public, and as old as torch 2.0. torch.autograd.Function.apply asks the same.
are_transforms_active: Callable[[], bool] = torch._C._are_functorch_transforms_active


def is_forward_mode_active() -> bool:
    """Return whether there may be dual tensors: the current level is not public either."""
    return forward_ad._current_level >= 0


def group_of_name(name: str) -> Any:
    """Return the process group with this ``group_name``.

    Not public, but what compiled code with collectives calls, too.
    """
    from torch.distributed import distributed_c10d

    resolve: Any = distributed_c10d._resolve_process_group  # type: ignore[attr-defined]
    return resolve(name)
