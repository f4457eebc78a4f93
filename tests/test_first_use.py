"""Compiling at first use, with a library of one line: what fails, and what others left behind."""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest

from simclr_ext._build_config import NoCuda
from simclr_ext.backends import first_use
from simclr_ext.backends.first_use import Library


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Library:
    folder = tmp_path / "sources, it's (here)"
    folder.mkdir()
    source, header = folder / "tiny.cpp", folder / "tiny.h"
    source.write_text('#include <tiny.h>\nextern "C" int answer() { return ANSWER; }\n')
    header.write_text("#define ANSWER 42\n")
    return Library("tiny", "a library", (source,), (header,), (folder,), NoCuda("it needs none"))


def answer(file: Path) -> int:
    return int(ctypes.CDLL(str(file)).answer())


def failing(*_: Any, **__: Any) -> Any:
    raise AssertionError("this must not be called")


def test_it_is_compiled_once(
    library: Library, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first_use.load(library, answer) == 42
    monkeypatch.setenv("CXX", "no-such-c++")
    assert first_use.load(library, answer) == 42
    assert {path.name for path in cache.iterdir()} == {
        library.folder().name,
        f"{library.folder().name}.lock",
    }


@pytest.mark.parametrize("command", ["no-such-c++", ""])
def test_no_compiler(
    command: str, library: Library, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", command)
    with pytest.raises(
        RuntimeError, match=f"no C\\+\\+ compiler: {command.replace('+', '.')!r} is"
    ):
        first_use.load(library, failing)


@pytest.mark.parametrize("prints", ["", "the license has expired"])
def test_a_compiler_that_always_fails(
    prints: str, library: Library, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\necho '{prints}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"(?s)exit status 1.*{prints}"):
            first_use.load(library, failing)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_missing_header_is_named(library: Library, cache: Path) -> None:
    library.sources[0].write_text("#include <missing.h>\n")
    with pytest.raises(RuntimeError, match=r"fatal error: missing\.h: No such file"):
        first_use.load(library, failing)


def test_what_was_deleted_is_compiled_again(library: Library, cache: Path) -> None:
    """Of temporary folders, old files are deleted one by one."""
    assert first_use.load(library, answer) == 42
    file = library.file()
    assert file
    file.unlink()
    assert first_use.load(library, answer) == 42


def test_a_damaged_file_is_named(library: Library, cache: Path) -> None:
    library.folder().mkdir(parents=True)
    (library.folder() / f"{library.stem}.so").write_bytes(b"half")
    with pytest.raises(RuntimeError, match=f"to compile it again, delete {library.folder()}"):
        first_use.load(library, answer)


def test_remains_that_cannot_be_deleted_do_no_harm(
    library: Library, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = cache / f"{library.folder().name}-left"
    left.mkdir(parents=True)
    rmdir = os.rmdir

    def refuse(path: Any, *args: Any, **options: Any) -> None:
        if Path(os.fsdecode(path)).name == left.name:  # as if a compiler still wrote to it
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        rmdir(path, *args, **options)

    monkeypatch.setattr(os, "rmdir", refuse)
    assert first_use.load(library, answer) == 42
    assert left.exists()


def begin(library: Library) -> int:
    """Return a process that loads the library, and ends with 0 if it is right."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(int(first_use.load(library, answer) != 42))
        finally:
            os._exit(1)
    return child


def test_ten_processes_at_once_compile_once(
    library: Library, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    children = [begin(library) for _ in range(10)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
    said = capfd.readouterr().err
    assert said.count("compiled in") == 1
    assert said.count("waiting for another process") <= 9


@pytest.mark.parametrize("moment", range(10))
def test_a_compilation_that_was_killed_is_begun_again(
    moment: int, library: Library, cache: Path
) -> None:
    """At ten moments; the compilers that it left go on."""
    child = begin(library)
    time.sleep(0.04 * moment)  # compiling takes about 0.4 s
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for left in cache.glob("*/build"):
        (left / "lock").touch()  # torch's own, of 2.13 and older
    assert first_use.load(library, answer) == 42
    assert len(list(cache.glob("*/*.so"))) == 1


def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any, **__: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", unsupported)


def a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    place.write_text("")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(place / "cache"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_home, "this user has no home folder"),
        (no_locks, "not appear to support flock"),
        (a_file, "Not a directory: '.*/cache/cache'"),
    ],
)
def test_a_cache_that_cannot_be_used_is_explained(
    spoil: Callable[[pytest.MonkeyPatch], None],
    message: str,
    library: Library,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch)
    with pytest.raises(RuntimeError, match=f"{message}; set TORCH_EXTENSIONS_DIR to a folder"):
        first_use.load(library, failing)
