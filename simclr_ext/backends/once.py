"""Functions that run once per process, whichever of its threads calls them first."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def once(function: Callable[[], T]) -> Callable[[], T]:
    """Return a function that calls the given one once, and then returns its result.

    Other threads wait meanwhile, where ``functools.cache`` would call it for each of them. An
    exception is not kept: the next call tries again.
    """
    results: list[T] = []
    lock = threading.Lock()

    @functools.wraps(function)
    def call() -> T:
        if not results:
            with lock:
                if not results:
                    results.append(function())
        return results[0]

    def renew() -> None:  # a thread that held it does not exist in a forked child
        nonlocal lock
        lock = threading.Lock()

    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=renew)
    return call
