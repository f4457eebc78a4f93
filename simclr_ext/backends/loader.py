"""Find the compiled operators: built ahead of time, else compiled now, else one typed error."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import ModuleType

import torch

from simclr_ext import _build_config
from simclr_ext._build_config import CudaBuild, NoCuda
from simclr_ext._errors import BackendUnavailableError

_JIT_NAME = "simclr_ext_jit"


@functools.cache
def load() -> ModuleType:
    """Load the compiled operators into ``torch.ops.simclr_ext`` and return their module.

    Raises:
        BackendUnavailableError: If there is no usable prebuilt module and compiling one fails; the
            message contains both causes and the compiler's output.
    """
    prebuilt_error = "not built ahead of time"
    try:
        return importlib.import_module("simclr_ext._C")
    except ModuleNotFoundError:
        pass  # a pure Python wheel: compile at first use
    except ImportError as error:
        prebuilt_error = str(error)
        warnings.warn(
            f"The prebuilt simclr_ext._C does not load with torch {torch.__version__}, so it is "
            f"compiled again. Reinstall simclr-ext to avoid this. Cause: {error}",
            stacklevel=2,
        )
    try:
        cuda = cuda_build()
        return _load_or_compile(jit_folder(cuda), cuda)
    except (RuntimeError, OSError, ImportError) as error:
        raise BackendUnavailableError(
            "The compiled NT-Xent operators are unavailable.\n"
            f"prebuilt: {prebuilt_error}\n"
            f"compiling at first use: {error}\n"
            "Compiling needs g++ 11 or clang++ 14 or newer, Python's headers (Debian: "
            "apt-get install g++ python3-dev) and ninja (pip install ninja). SIMCLR_EXT_CUDA=0 "
            "leaves out the CUDA kernels. nt_xent_loss(..., backend='tiled') needs no compiled "
            "operators."
        ) from error


def how_built(module: ModuleType) -> str:
    """Return ``"ahead of time"`` or ``"at first use"`` for what :func:`load` returned."""
    return "at first use" if module.__name__.startswith(_JIT_NAME) else "ahead of time"


def jit_folder(cuda: CudaBuild | NoCuda) -> Path:
    """Return the folder for operators compiled at first use.

    Its name contains a hash of everything that the binary depends on: a new version of the sources,
    torch or Python is compiled into a new folder, and old folders stay valid.
    """
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    digest = hashlib.sha256()
    for path in [*_build_config.sources(cuda), *_build_config.headers(cuda)]:
        digest.update(path.read_bytes())
    flags = [*_build_config.COMPILE_ARGS, *_build_config.LINK_ARGS]
    if isinstance(cuda, CudaBuild):
        flags += [*cuda.compile_args(), *cuda.nvcc_args()]
    for part in (*flags, torch.__version__, sys.implementation.cache_tag, platform.machine()):
        digest.update(part.encode())
    return Path(root) / f"simclr_ext-{digest.hexdigest()[:16]}"


def cuda_build() -> CudaBuild | NoCuda:
    """Return whether and how a compilation at first use includes the CUDA kernels.

    Only for the GPUs of this machine, to be quick. Without one, only if SIMCLR_EXT_CUDA is 1, and
    then for all architectures that the kernels support.

    Raises:
        BuildConfigError: As in :func:`_build_config.cuda_build`.
    """
    served = [gpu for gpu in visible_capabilities() if gpu >= _build_config.MIN_CAPABILITY]
    if not served and _build_config.cuda_mode() == "auto":
        return NoCuda(
            "no GPU that they run on is visible; SIMCLR_EXT_CUDA=1 compiles them regardless"
        )
    # 9.0a: with the instructions that only GPUs of compute capability 9.0 have.
    names = sorted({f"sm_{major}{minor}{'a' if major == 9 else ''}" for major, minor in served})
    torch_home = Path(torch.__file__).parent
    return _build_config.cuda_build(torch_home, names or _build_config.CUDA_ARCHITECTURES)


def visible_capabilities() -> list[tuple[int, int]]:
    """Return the compute capability of each CUDA device that this process sees."""
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]


def _load_or_compile(folder: Path, cuda: CudaBuild | NoCuda) -> ModuleType:
    if not folder.exists():
        try:
            _compile_once(folder, cuda)
        except OSError as error:
            raise RuntimeError(
                f"{error}; set TORCH_EXTENSIONS_DIR to a folder that can be written"
            ) from error
    (library,) = folder.glob(f"{_JIT_NAME}*.so")  # and not the link to libcudart
    return _import(library)


def _compile_once(folder: Path, cuda: CudaBuild | NoCuda) -> None:
    """Compile into ``folder``, in one process at a time.

    The folder appears when it is complete. Until then a temporary one is used, so that the remains
    of a killed compilation, such as torch's own lock, do no harm.
    """
    import filelock  # only here: a module built ahead of time does not need it

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _say("waiting for another process that compiles the kernels")
        lock.acquire()
    with lock:
        if folder.exists():
            return
        for left_behind in folder.parent.glob(f"{folder.name}-*"):
            shutil.rmtree(left_behind)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as name:
            complete = Path(name) / "build"  # with the default permissions, unlike mkdtemp's
            complete.mkdir()
            _say_and_compile(folder, complete, cuda)
            complete.rename(folder)


def _say_and_compile(folder: Path, build: Path, cuda: CudaBuild | NoCuda) -> None:
    duration = "about half a minute"
    if isinstance(cuda, CudaBuild):
        duration = f"for {', '.join(cuda.architectures)}; about a minute for each"
    _say(f"compiling the kernels, once, into {folder} ({duration})")
    start = time.monotonic()
    _compile(build, cuda)
    _say(f"compiled in {time.monotonic() - start:.0f} s")


def _compile(build: Path, cuda: CudaBuild | NoCuda) -> None:
    import ninja
    from torch.utils import cpp_extension

    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise RuntimeError(f"no C++ compiler: {compiler!r} is not on the PATH")
    # If Python runs from an environment that is not activated, its ninja is not on the PATH.
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, path])
    compile_args, nvcc_args, link_args = _build_config.COMPILE_ARGS, [], _build_config.LINK_ARGS
    if isinstance(cuda, CudaBuild):
        compile_args = [*compile_args, *cuda.compile_args()]
        nvcc_args = cuda.nvcc_args()
        link_args = [*link_args, *cuda.link_args(build)]
        cpp_extension.CUDA_HOME = str(cuda.home)
    try:
        cpp_extension.load(
            name=_JIT_NAME,
            sources=[str(source) for source in _build_config.sources(cuda)],
            extra_include_paths=[str(_build_config.source_dir())],
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


def _import(library: Path) -> ModuleType:
    # torch adds a number to the name if a process compiles it a second time.
    spec = importlib.util.spec_from_file_location(library.stem, library)
    if spec is None or spec.loader is None:
        raise ImportError(f"{library} is not an extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _say(message: str) -> None:
    print(f"simclr_ext: {message}", file=sys.stderr, flush=True)
