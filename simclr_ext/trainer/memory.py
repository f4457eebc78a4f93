"""Freed memory is kept for the next step, on a CPU with the GNU C library.

A training step allocates and frees the same large tensors again and again. By default the library
gives freed memory back to the system, which then clears every page anew: on two cores, a tenth of a
step of `cpu-small`.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt, from malloc.h, with the library's defaults; -1 never gives back.
_TRIM_THRESHOLD, _DEFAULT_TRIM = -1, 128 * 1024
_MMAP_THRESHOLD, _DEFAULT_MMAP = -3, 128 * 1024
_LARGE = 2**30  # bytes; what is larger is mapped, and given back when it is freed


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory while this is open, and give it back then; elsewhere, do nothing.

    It is a setting of the whole process. Results do not depend on it.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _DEFAULT_MMAP)
        libc.mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM)
        libc.malloc_trim(0)
