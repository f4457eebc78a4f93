"""A file is the previous one or the complete new one, whatever happens in between."""

import errno
import os
from pathlib import Path

import pytest

from simclr_ext.options.errors import StorageError
from simclr_ext.trainer.atomic import replacing, write_text


def test_an_error_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "fünf\n")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text(encoding="utf-8") == "fünf\n"
    write_text(path, "six\n")
    assert path.read_text(encoding="utf-8") == "six\n"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_interfere(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with replacing(path, ".1.partial") as one, replacing(path, ".2.partial") as two:
        one.write(b"one")
        two.write(b"two")
    assert path.read_bytes() == b"one"  # the last to end
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"b.txt: cannot be written: No such file or directory"):
        write_text(tmp_path / "gone" / "b.txt", "")

    def full(error: OSError) -> None:
        with replacing(tmp_path / "a.bin") as file:
            file.write(b"half")
            try:
                raise error
            finally:
                raise RuntimeError("as torch.save says")

    with pytest.raises(StorageError, match=r"a.bin: cannot be written: No space left on device"):
        full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="of something else"), replacing(tmp_path / "a.bin"):
        raise RuntimeError("of something else")
