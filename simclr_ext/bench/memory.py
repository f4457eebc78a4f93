"""Memory: what a call allocates, and how running out of it becomes a result."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

OUT_OF_MEMORY = "out of memory"
# In the messages of torch on the CPU, of C++ and of XLA.
_SIGNS = ("can't allocate memory", "bad_alloc", "RESOURCE_EXHAUSTED", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory was not enough."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(sign in str(error) for sign in _SIGNS)


def attempt(function: Callable[[], object]) -> str:
    """Call a function that may fail, of which either is a result.

    Returns:
        "ok", "out of memory", or "failed: " and the error's first line.
    """
    status = "ok"
    try:
        function()
        if _on_gpu():
            torch.cuda.synchronize()  # an error of a kernel belongs to the call that started it
    except Exception as error:
        status = f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if is_out_of_memory(error):
            status = OUT_OF_MEMORY
    if status == OUT_OF_MEMORY and _on_gpu():
        torch.cuda.empty_cache()
    return status


def _on_gpu() -> bool:
    initialized: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return initialized


@contextlib.contextmanager
def limited(extra: int) -> Iterator[None]:
    """Let this process take at most `extra` bytes more; beyond, allocations fail.

    Without a limit Linux grants what it does not have, and ends the process later. Does nothing
    where the system knows no such limit.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + extra
    if before[0] != resource.RLIM_INFINITY:
        wanted = min(wanted, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (wanted, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def available() -> int:
    """Return the bytes of memory that are free or can be freed; 2^62 if the system hides them."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return 2**62
    (line,) = (x for x in path.read_text().splitlines() if x.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def allowance() -> int:
    """Return the bytes that a measurement may take: 85 % of those that are available."""
    return int(0.85 * available())


def peak(call: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the most bytes that a call takes at once, beyond what is there before it.

    Outputs and gradients count. On CUDA as torch's allocator counts them; on the CPU as pages that
    become resident, which needs Linux.

    Raises:
        OSError: If the system does not tell.
    """
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_back()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    call()
    return max(0, _resident("VmHWM") - before)


def _give_back() -> None:
    """Give freed memory back to the system: what is kept would hide what a call takes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(key))
    return int(line.split()[1]) * 1024
