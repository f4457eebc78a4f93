"""Files that are replaced as a whole: a crash leaves the previous file or the new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from simclr_ext.options.errors import StorageError


@contextmanager
def replacing(
    path: Path, partial: str = ".partial", previous: Path | None = None
) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends without an error.

    Args:
        path: File to write or replace.
        partial: What its name ends in until then. Of two processes that write the same file at a
            time, each needs one of its own.
        previous: Where the file that is replaced is kept; None: nowhere.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(path) as file:
        ...     _ = file.write(b"whole")
        >>> path.read_bytes(), len(list(path.parent.iterdir()))
        (b'whole', 1)

    Raises:
        StorageError: The file cannot be written; `path` is as it was.
    """
    unfinished = path.with_name(path.name + partial)
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else the new name may reach the disk before its contents
        if previous is not None and path.exists():
            path.replace(previous)  # until the next line, the whole new file is `unfinished`
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:
        if (cause := _os_error(error)) is None:
            raise
        with suppress(OSError):  # half a file on a full disk helps nobody
            unfinished.unlink()
        raise StorageError(f"{path}: cannot be written: {cause.strerror or cause}") from error


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the error of the operating system, while handling which another one was raised.

    torch.save raises a RuntimeError when it closes a file to which it could not write.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file in UTF-8 as a whole."""
    with replacing(path) as file:
        file.write(text.encode())
