"""SIGINT and SIGTERM as a wish to stop after the step that is going on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether a signal has come.

    Attributes:
        signal: Its number; None: none has.
    """

    signal: int | None = None


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the first SIGINT or SIGTERM; a second one interrupts at once.

    Signals can be caught in the main thread alone; in another, nothing changes.
    """
    request = StopRequest()

    def remember(number: int, frame: FrameType | None) -> None:
        if request.signal is not None:
            raise KeyboardInterrupt
        request.signal = number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
