"""The option `threads`: CPU threads of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Give PyTorch a number of CPU threads for as long as this is open.

    Args:
        count: At least 1; None: as many as it has.

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
