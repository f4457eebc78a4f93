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
from dataclasses import dataclass
from pathlib import Path

import torch

from simclr_ext import _build_config
from simclr_ext._build_config import CudaBuild, NoCuda

NEEDS = (
    "Compiling needs g++ 11 or clang++ 14 or newer, Python's headers (Debian: "
    "apt-get install g++ python3-dev) and ninja (pip install ninja)."
)


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
        root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
        digest = hashlib.sha256()
        for path in (*self.sources, *self.headers):
            digest.update(path.read_bytes())
        flags = [*_build_config.COMPILE_ARGS, *_build_config.LINK_ARGS]
        if isinstance(self.cuda, CudaBuild):
            flags += [*self.cuda.compile_args(), *self.cuda.nvcc_args()]
        versions = (torch.__version__, sys.implementation.cache_tag, platform.machine())
        for part in (*flags, *versions, *self.versions):
            digest.update(part.encode())
        return Path(root) / f"{self.name}-{digest.hexdigest()[:16]}"


def find_or_compile(library: Library) -> Path:
    """Return the file of a library, which is compiled if it is not there.

    Raises:
        RuntimeError: If it cannot be compiled or stored; the message has what the compiler said.
    """
    folder = library.folder()
    if not folder.exists():
        try:
            _compile_once(folder, library)
        except OSError as error:
            raise RuntimeError(
                f"{error}; set TORCH_EXTENSIONS_DIR to a folder that can be written"
            ) from error
    (file,) = folder.glob(f"{library.stem}*.so")  # and not the link to libcudart
    return file


def _compile_once(folder: Path, library: Library) -> None:
    """Compile into ``folder``, in one process at a time.

    The folder appears when it is complete. Until then a temporary one is used, so that the remains
    of a killed compilation, such as torch's own lock, do no harm.
    """
    import filelock  # only here: a module built ahead of time does not need it

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout:
        _say(f"waiting for another process that compiles {library.purpose}")
        held = lock.acquire()
    with held:  # not the lock itself, which would be acquired twice and released once
        if folder.exists():
            return
        for left_behind in folder.parent.glob(f"{folder.name}-*"):
            shutil.rmtree(left_behind)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as name:
            complete = Path(name) / "build"  # with the default permissions, unlike mkdtemp's
            complete.mkdir()
            _say_and_compile(folder, complete, library)
            complete.rename(folder)


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
    path = os.environ.get("PATH", "")
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
        os.environ["PATH"] = path


def _quoted(arguments: list[str]) -> list[str]:
    return [shlex.quote(argument) for argument in arguments]  # torch passes them to a shell


def _say(message: str) -> None:
    print(f"simclr_ext: {message}", file=sys.stderr, flush=True)
