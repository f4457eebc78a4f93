"""How much memory a file may ask for: what it says of its size is not to be trusted."""

from __future__ import annotations

import os
from pathlib import Path

from simclr_ext.options.errors import DataError

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


def check_memory(name: str, size: int) -> None:
    """Raise DataError if so many bytes take more than half of the machine's memory.

    A file of a few kB can hold, or claim to hold, any number of bytes, and half of the memory is
    needed to convert them.

    Args:
        name: The file, for the message.
        size: Bytes after decompression.
    """
    limit = memory() // 2
    if size > limit:
        raise DataError(
            f"{name}: its contents take {size / 2**30:,.1f} GiB, more than {limit / 2**30:,.1f}, "
            "half of this machine's memory"
        )


def memory() -> int:
    """Return the memory of the machine, or of the container, in bytes."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return machine
