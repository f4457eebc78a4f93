"""The option `threads`: CPU threads of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Set PyTorch's number of CPU threads within the block.

    Args:
        count: At least 1; None: the number is left as it is.

    Yields:
        The number.

    Example:
        >>> with threads(1) as count:
        ...     count, torch.get_num_threads()
        (1, 1)
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
