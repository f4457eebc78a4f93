"""A file is the previous one or the whole new one, whatever happens in between."""

from pathlib import Path

import pytest

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


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with replacing(path, ".1.partial") as one, replacing(path, ".2.partial") as two:
        one.write(b"one")
        two.write(b"two")
    assert path.read_bytes() == b"one"  # the last to end
    assert list(tmp_path.iterdir()) == [path]
