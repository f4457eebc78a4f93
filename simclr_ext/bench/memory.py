"""Memory: what a call allocates, and out of memory as a result instead of a crash."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

OUT_OF_MEMORY = "out of memory"
# From the messages of torch on the CPU, of C++ and of XLA.
_SIGNS = ("can't allocate memory", "bad_alloc", "RESOURCE_EXHAUSTED", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(sign in str(error) for sign in _SIGNS)


def attempt(function: Callable[[], object]) -> str:
    """Call a function and return its status; failing is a result too.

    Returns:
        "ok", "out of memory", or "failed: " and the error's first line.
    """
    status = "ok"
    try:
        function()
        if _on_gpu():
            torch.cuda.synchronize()  # so that a kernel's error is raised in its own call
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
    """Let this process allocate at most `extra` bytes more; beyond that, allocations fail.

    Without a limit Linux overcommits memory and kills the process later. Does nothing on other
    systems.
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
    """Return the bytes of memory that are free or can be freed; 2^62 if that is unknown."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return 2**62
    (line,) = (x for x in path.read_text().splitlines() if x.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def allowance() -> int:
    """Return the bytes that a measurement may use: 85 % of those available."""
    return int(0.85 * available())


def peak(call: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the peak memory of a call in bytes, beyond what was allocated before it.

    Includes outputs and gradients. On CUDA as counted by torch's allocator; on the CPU as pages
    that become resident, which needs Linux.

    Raises:
        OSError: If the system does not report it.
    """
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_back()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    call()
    return max(0, _resident("VmHWM") - before)


def _give_back() -> None:
    """Give freed memory back to the system: a call could reuse it without raising the peak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(key))
    return int(line.split()[1]) * 1024
