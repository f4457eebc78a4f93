"""The process of a training: it catches signals, and keeps freed memory."""

from __future__ import annotations

import ctypes
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from simclr_ext.trainer.job import SIGNALS

# Parameters of mallopt, from malloc.h, with glibc's defaults; -1: freed memory is never returned.
_TRIM_THRESHOLD, _DEFAULT_TRIM = -1, 128 * 1024
_MMAP_THRESHOLD, _DEFAULT_MMAP = -3, 128 * 1024
# Bytes; larger blocks are mapped, and returned to the system when freed. glibc before 2.35 refuses
# more than the second.
_LARGE = (2**30, 2**25)


@dataclass
class StopRequest:
    """Whether a signal has arrived.

    Attributes:
        signal: Its number; None: no signal has arrived.
    """

    signal: int | None = None


@contextmanager
def stop_request(patient: bool = False) -> Iterator[StopRequest]:
    """Catch the first SIGINT, SIGTERM or SIGHUP; a second one interrupts at once.

    Args:
        patient: Whether further ones change nothing: torchrun passes a signal on to its processes,
            which may have it from the scheduler already, and kills them if they take too long.

    Signals can be caught only in the main thread; in another one, nothing changes. SIGHUP stays
    ignored if it was ignored before, as under `nohup`.
    """
    request = StopRequest()

    def remember(number: int, frame: FrameType | None) -> None:
        if request.signal is None:
            request.signal = number
        elif not patient:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {
        number: signal.signal(number, remember)
        for number in SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory while the block runs, with the GNU C library; elsewhere do nothing.

    A training step allocates and frees the same large tensors again and again. By default the GNU C
    library returns freed memory to the system, which then clears every page again: on two cores,
    this takes a tenth of a step of `cpu-small`.

    The setting holds for the whole process. Afterwards the thresholds are glibc's initial ones, and
    no longer grow with the blocks that are freed, as they do where they were never set. Results
    depend on neither.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    # If none is taken, the other threshold would only keep this one from growing.
    if not any(libc.mallopt(_MMAP_THRESHOLD, size) for size in _LARGE):
        yield
        return
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _DEFAULT_MMAP)
        libc.mallopt(_TRIM_THRESHOLD, _DEFAULT_TRIM)
        libc.malloc_trim(0)
