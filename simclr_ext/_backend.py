"""Finds the compiled operators: built ahead of time, else compiled now, else one typed error."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import platform
import shutil
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType

import filelock
import torch

from simclr_ext import _build_config

_JIT_NAME = "simclr_ext_jit"


class BackendUnavailableError(RuntimeError):
    """The compiled operators can neither be loaded nor compiled, or do not serve this device."""


@functools.cache
def load() -> ModuleType:
    """Load the compiled operators into ``torch.ops.simclr_ext`` and return their module.

    Raises:
        BackendUnavailableError: If there is no usable prebuilt module and compiling one fails; the
            message carries both causes, and the compiler's own words.
    """
    prebuilt_error = "not built ahead of time"
    try:
        return importlib.import_module("simclr_ext._C")
    except ModuleNotFoundError:
        pass  # a pure wheel: compile at first use
    except ImportError as error:
        prebuilt_error = str(error)
        warnings.warn(
            f"The prebuilt simclr_ext._C does not load with torch {torch.__version__}, so it is "
            f"compiled again. Reinstall simclr-ext to be rid of this. Cause: {error}",
            stacklevel=2,
        )
    try:
        return _load_or_compile(jit_folder())
    except (RuntimeError, OSError, ImportError) as error:
        raise BackendUnavailableError(
            "The compiled NT-Xent operators are unavailable.\n"
            f"prebuilt: {prebuilt_error}\n"
            f"compiling at first use: {error}\n"
            "What compiling needs: g++ 11 or clang++ 14 or newer, Python's headers (Debian: "
            "apt-get install g++ python3-dev) and ninja (pip install ninja). Without them, "
            "nt_xent_loss(..., backend='tiled') runs in PyTorch operations."
        ) from error


def how_built(module: ModuleType) -> str:
    """Return ``"ahead of time"`` or ``"at first use"`` for what :func:`load` returned."""
    return "at first use" if module.__name__ == _JIT_NAME else "ahead of time"


def jit_folder() -> Path:
    """Return the folder for operators compiled at first use.

    Its name holds a hash of all that the binary depends on: a new version of the sources, of torch
    or of Python compiles afresh, and an old one stays valid for those who still use it.
    """
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    digest = hashlib.sha256()
    for path in [*_build_config.sources(), *_build_config.headers()]:
        digest.update(path.read_bytes())
    flags = [*_build_config.COMPILE_ARGS, *_build_config.LINK_ARGS]
    for part in (*flags, torch.__version__, sys.implementation.cache_tag, platform.machine()):
        digest.update(part.encode())
    return Path(root) / f"simclr_ext-{digest.hexdigest()[:16]}"


def _load_or_compile(folder: Path) -> ModuleType:
    finished = folder / "finished"  # written last: a build that was killed leaves none
    folder.mkdir(parents=True, exist_ok=True)
    if not finished.exists():
        lock = filelock.FileLock(f"{folder}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            _say("waiting for another process that compiles the kernels")
            lock.acquire()
        with lock:
            if not finished.exists():
                _compile(folder)
                finished.touch()
    return _import(folder / f"{_JIT_NAME}.so")


def _compile(folder: Path) -> None:
    import ninja
    from torch.utils import cpp_extension

    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise RuntimeError(f"no C++ compiler: {compiler!r} is not on the PATH")
    # Python may run from an environment that is not activated: its ninja is not on the PATH then.
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, path])
    _say(f"compiling the kernels, once, into {folder} (about half a minute)")
    start = time.monotonic()
    try:
        cpp_extension.load(
            name=_JIT_NAME,
            sources=[str(source) for source in _build_config.sources()],
            extra_include_paths=[str(_build_config.source_dir())],
            extra_cflags=_build_config.COMPILE_ARGS,
            extra_ldflags=_build_config.LINK_ARGS,
            build_directory=str(folder),
            with_cuda=False,
            is_python_module=False,
        )
    finally:
        os.environ["PATH"] = path
    _say(f"compiled in {time.monotonic() - start:.0f} s")


def _import(library: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_JIT_NAME, library)
    if spec is None or spec.loader is None:
        raise ImportError(f"{library} is not an extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _say(message: str) -> None:
    print(f"simclr_ext: {message}", file=sys.stderr, flush=True)
