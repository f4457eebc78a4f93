"""Find the compiled operators: built ahead of time, else compiled now, else one typed error."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import torch

from simclr_ext import _build_config
from simclr_ext._build_config import CudaBuild, NoCuda
from simclr_ext._errors import BackendUnavailableError
from simclr_ext.backends import first_use
from simclr_ext.backends.first_use import Library
from simclr_ext.backends.once import once

_NAME = "simclr_ext"


@once
def load() -> ModuleType:
    """Load the compiled operators into ``torch.ops.simclr_ext`` and return their module.

    Raises:
        BackendUnavailableError: If there is no usable prebuilt module and compiling one fails; the
            message contains both causes and the compiler's output.
    """
    prebuilt_error = "not built ahead of time"
    try:
        return _prebuilt()
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
        return first_use.load(_library(cuda_build()), _import)
    except (RuntimeError, OSError, ImportError) as error:
        raise BackendUnavailableError(
            "The compiled NT-Xent operators are unavailable.\n"
            f"prebuilt: {prebuilt_error}\n"
            f"compiling at first use: {error}\n"
            f"{first_use.NEEDS} SIMCLR_EXT_CUDA=0 leaves out the CUDA kernels. "
            "nt_xent_loss(..., backend='tiled') needs no compiled operators."
        ) from error


def how_built(module: ModuleType) -> str:
    """Return ``"ahead of time"`` or ``"at first use"`` for what :func:`load` returned."""
    at_first_use = module.__name__.startswith(f"{_NAME}_jit")
    return "at first use" if at_first_use else "ahead of time"


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


def _prebuilt() -> ModuleType:
    module = importlib.import_module("simclr_ext._C")
    if module.torch_version.split(".")[:2] != torch.__version__.split(".")[:2]:
        warnings.warn(
            f"simclr_ext._C was built for torch {module.torch_version}, and this is torch "
            f"{torch.__version__}: it loads, and may be wrong. Reinstall simclr-ext.",
            stacklevel=3,
        )
    return module


def _library(cuda: CudaBuild | NoCuda) -> Library:
    return Library(
        _NAME,
        "the kernels",
        sources=tuple(_build_config.sources(cuda)),
        headers=tuple(_build_config.headers(cuda)),
        includes=(_build_config.source_dir(),),
        cuda=cuda,
    )


def _import(library: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(library.stem, library)
    if spec is None or spec.loader is None:
        raise ImportError(f"{library} is not an extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
