"""Progress for people: a bar on a terminal, whole lines where stderr is a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from simclr_ext.options.printable import printable

T = TypeVar("T")
_silent = False  # whether another process writes for this one


def on_terminal() -> bool:
    """Return whether stderr is a terminal, where a line can be overwritten."""
    return sys.stderr.isatty()


def say(line: str) -> None:
    """Write a line to stderr at once, above a progress bar if there is one."""
    if _silent:
        return
    tqdm.write(f"{printable(line)}\n", file=sys.stderr, end="")  # by one call: processes share it
    sys.stderr.flush()


@contextmanager
def silence() -> Iterator[None]:
    """Write no lines while the block runs."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


def duration(seconds: float) -> str:
    """Return a duration as [h:]mm:ss.

    >>> duration(83), duration(3671)
    ('01:23', '1:01:11')
    """
    text: str = tqdm.format_interval(seconds)
    return text


class Progress:
    """Shows how many parts of a task are done, and the time left.

    Args:
        doing: Name of the task, such as "evaluating".
        total: Number of parts.
        done: Number of parts that are already done.
    """

    def __init__(self, doing: str, total: int, done: int = 0) -> None:
        self._doing, self._total, self._done, self._before = doing, total, done, done
        self._start = time.monotonic()
        # Without smoothing: parts differ in length, and the mean predicts the rest best.
        self._bar = tqdm(
            desc=doing, total=total, initial=done, smoothing=0, disable=not on_terminal()
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def advance(self, part: str) -> None:
        """Show that a part is done."""
        self._done += 1
        self._bar.update()
        if not on_terminal():
            seconds = (time.monotonic() - self._start) / (self._done - self._before)
            left = duration(seconds * (self._total - self._done))
            say(f"{self._doing}: {part}, {self._done} of {self._total}, {left} left")


def each(doing: str, parts: Sequence[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Yield parts with their names, and show when each is done."""
    with Progress(doing, len(parts)) as progress:
        for name, part in parts:
            yield name, part
            progress.advance(name)
