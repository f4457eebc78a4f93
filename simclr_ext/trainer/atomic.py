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
    """Open a file that replaces `path` when the block ends without an error.

    Args:
        path: File to write or replace.
        partial: Suffix of the file's name until then. Processes that may write the same file at
            the same time must use different ones.
        previous: Path at which the replaced file is kept; None: it is not kept.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(path) as file:
        ...     _ = file.write(b"whole")
        >>> path.read_bytes(), len(list(path.parent.iterdir()))
        (b'whole', 1)

    Raises:
        StorageError: The file cannot be written; `path` is unchanged.
    """
    unfinished = path.with_name(path.name + partial)
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else the new name may reach the disk before its contents
        if previous is not None and path.exists():
            path.replace(previous)  # after a crash here, `unfinished` is the complete new file
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:
        if (cause := _os_error(error)) is None:
            raise
        with suppress(OSError):  # an incomplete file only fills the disk
            unfinished.unlink()
        raise StorageError(f"{path}: cannot be written: {cause.strerror or cause}") from error


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the operating system's error behind another one; None: there is none.

    torch.save raises a RuntimeError when it closes a file that it could not write.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file in UTF-8 as a whole.

    Bytes of file names that are not UTF-8, which Python keeps as surrogates, are written as they
    are.
    """
    with replacing(path) as file:
        file.write(text.encode(errors="surrogateescape"))
