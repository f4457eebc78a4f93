"""Libraries that are compiled at first use, once, into a folder that all processes share."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from simclr_ext import _build_config
from simclr_ext._build_config import CudaBuild, NoCuda

NEEDS = (
    "Compiling needs g++ 11 or clang++ 14 or newer, Python's headers (Debian: "
    "apt-get install g++ python3-dev), ninja (pip install ninja), and a folder with space, from "
    "which libraries may be loaded: TORCH_EXTENSIONS_DIR, or ~/.cache/torch_extensions."
)

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Library:
    """What is compiled, and how.

    Attributes:
        name: Its folder's name begins with this, and its file's name is NAME_jit.
        purpose: What it has, for messages.
        sources: Source files.
        headers: Files that they include; others only if `versions` says which these are.
        includes: Folders of these.
        cuda: Whether and how the sources in CUDA are compiled.
        versions: Of what else it depends on, beside torch and Python.
    """

    name: str
    purpose: str
    sources: tuple[Path, ...]
    headers: tuple[Path, ...]
    includes: tuple[Path, ...]
    cuda: CudaBuild | NoCuda
    versions: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """Return the name of its file; torch adds a number if a process compiles it again."""
        return f"{self.name}_jit"

    def folder(self) -> Path:
        """Return the folder in which it is kept.

        The folder's name contains a hash of everything that the binary depends on: a new version of
        the sources, torch or Python is compiled into a new folder, and old folders stay valid.
        """
        digest = hashlib.sha256()
        for path in (*self.sources, *self.headers):
            digest.update(path.read_bytes())
        flags = [*_build_config.COMPILE_ARGS, *_build_config.LINK_ARGS]
        if isinstance(self.cuda, CudaBuild):
            flags += [*self.cuda.compile_args(), *self.cuda.nvcc_args()]
        versions = (torch.__version__, sys.implementation.cache_tag, platform.machine())
        for part in (*flags, *versions, *self.versions):
            digest.update(part.encode())
        return _root() / f"{self.name}-{digest.hexdigest()[:16]}"

    def file(self) -> Path | None:
        """Return its file, None if it is not there."""
        files = self.folder().glob(f"{self.stem}*.so")  # and not the link to libcudart
        return next(files, None)


def load(library: Library, how: Callable[[Path], Loaded]) -> Loaded:
    """Return what ``how`` makes of the library's file, which is compiled if it is not there.

    Raises:
        RuntimeError: If it cannot be compiled, stored or loaded; the message has what the compiler
            said.
        ImportError: If ninja is missing.
    """
    try:
        file = library.file() or _compile_once(library)
    except (OSError, NotImplementedError) as error:  # filelock's, of a file system without locks
        raise RuntimeError(
            f"{error}; set TORCH_EXTENSIONS_DIR to a folder that can be written"
        ) from error
    try:
        return how(file)
    except (OSError, ImportError) as error:
        raise RuntimeError(f"{error}; to compile it again, delete {file.parent}") from error


def _root() -> Path:
    chosen = os.environ.get("TORCH_EXTENSIONS_DIR")
    try:
        return Path(chosen) if chosen else Path.home() / ".cache" / "torch_extensions"
    except RuntimeError as error:
        raise FileNotFoundError("this user has no home folder") from error


def _compile_once(library: Library) -> Path:
    """Compile into the library's folder, in one process at a time, and return the file.

    The folder appears when it is complete. Until then a temporary one is used, so that the remains
    of a killed compilation, such as torch's own lock, do no harm.
    """
    import filelock  # only here: a module built ahead of time does not need it

    folder = library.folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout:
        _say(f"waiting for another process that compiles {library.purpose}")
        held = lock.acquire()
    with held:  # not the lock itself, which would be acquired twice and released once
        if file := library.file():
            return file
        for left_behind in (folder, *folder.parent.glob(f"{folder.name}-*")):
            # Compilers outlive a process that was killed, and may still write: what is not deleted
            # now is next time.
            shutil.rmtree(left_behind, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
        ) as name:
            complete = Path(name) / "build"  # with the default permissions, unlike mkdtemp's
            complete.mkdir()
            _say_and_compile(folder, complete, library)
            complete.rename(folder)
        (file,) = folder.glob(f"{library.stem}*.so")
        return file


def _say_and_compile(folder: Path, build: Path, library: Library) -> None:
    duration = "about half a minute"
    if isinstance(library.cuda, CudaBuild):
        duration = f"for {', '.join(library.cuda.architectures)}; about a minute for each"
    _say(f"compiling {library.purpose}, once, into {folder} ({duration})")
    start = time.monotonic()
    _compile(build, library)
    _say(f"compiled in {time.monotonic() - start:.0f} s")


def _compile(build: Path, library: Library) -> None:
    import ninja
    from torch.utils import cpp_extension

    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise RuntimeError(f"no C++ compiler: {compiler!r} is not on the PATH")
    # If Python runs from an environment that is not activated, its ninja is not on the PATH.
    path, cuda_home = os.environ.get("PATH", ""), cpp_extension.CUDA_HOME
    os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, path])
    compile_args, nvcc_args, link_args = _build_config.COMPILE_ARGS, [], _build_config.LINK_ARGS
    cuda = library.cuda
    if isinstance(cuda, CudaBuild):
        compile_args = [*compile_args, *cuda.compile_args()]
        nvcc_args = cuda.nvcc_args()
        link_args = [*link_args, *cuda.link_args(build)]
        cpp_extension.CUDA_HOME = str(cuda.home)
    try:
        cpp_extension.load(
            name=library.stem,
            sources=[str(source) for source in library.sources],
            extra_include_paths=[str(folder) for folder in library.includes],
            extra_cflags=_quoted(compile_args),
            extra_cuda_cflags=_quoted(nvcc_args),
            extra_ldflags=_quoted(link_args),
            build_directory=str(build),
            with_cuda=isinstance(cuda, CudaBuild),
            is_python_module=False,
        )
    except Exception as error:  # torch does not wrap every error of a compiler
        output: bytes = getattr(error, "output", None) or b""
        raise RuntimeError(f"{error}\n{output.decode(errors='replace')}".rstrip()) from error
    finally:
        os.environ["PATH"], cpp_extension.CUDA_HOME = path, cuda_home


def _quoted(arguments: list[str]) -> list[str]:
    return [shlex.quote(argument) for argument in arguments]  # torch passes them to a shell


def _say(message: str) -> None:
    print(f"simclr_ext: {message}", file=sys.stderr, flush=True)
