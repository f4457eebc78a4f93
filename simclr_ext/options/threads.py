"""The option `threads`: CPU threads of PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from simclr_ext.options.errors import ConfigError

# An environment variable and not an option: it holds for this machine, and a run must not keep it.
_FORCE = "SIMCLR_EXT_FORCE_THREADS"


def check_threads(count: int | None) -> None:
    """Raise ConfigError if `count` exceeds the number of processors, unless the user allows it.

    Configurations do not check this themselves, so that one from a larger machine can be read here.
    """
    if count is None or os.environ.get(_FORCE) == "1":
        return
    available = _processors()
    if count > available:
        raise ConfigError(
            f"threads must be null or at most {available}, this machine's processors, got {count}; "
            f"{_FORCE}=1 allows more"
        )


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Set PyTorch's number of CPU threads within the block.

    Args:
        count: At least 1; None: PyTorch's current number.

    Yields:
        The number of threads.

    Raises:
        ConfigError: The machine has fewer processors.

    Example:
        >>> with threads(1) as count:
        ...     count, torch.get_num_threads()
        (1, 1)
    """
    check_threads(count)
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
