"""Folders in which one process works at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from simclr_ext.options.errors import RunFolderError

LOCK = ".lock"  # the file's name; it stays when the lock is released
_WAIT = 8.0  # seconds: the workers of a killed process, which share its lock, end within five


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    The operating system holds the lock, and releases it when the process ends, for any reason.

    Args:
        folder: The folder, which exists.

    Raises:
        RunFolderError: Another process is at work in it, or the folder cannot be locked.
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=_WAIT, poll_interval=0.2)
    except filelock.Timeout:
        raise RunFolderError(f"{folder}: another process is at work in this folder") from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunFolderError(f"{folder}: cannot be locked: {reason}") from error
    try:
        yield
    finally:
        lock.release()
