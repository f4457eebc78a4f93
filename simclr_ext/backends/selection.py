"""Which backend computes the loss for given views, and why."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from simclr_ext._build_config import MIN_CAPABILITY
from simclr_ext._errors import BackendUnavailableError
from simclr_ext._torch_compat import HAS_PRODUCTS_OF_HALVES
from simclr_ext.backends import loader

BackendName = Literal["fused", "tiled", "reference"]
Backend = Literal["auto", "fused", "tiled", "reference"]
BACKENDS = get_args(Backend)

# What the kernels of csrc/cuda support, and the largest D that they multiply without cuBLAS.
_CUDA_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_CUDA_MAX_DIM = 256


@dataclass(frozen=True)
class BackendChoice:
    """A backend and the reason for it.

    Args:
        name: ``"fused"``, ``"tiled"`` or ``"reference"``.
        reason: Why this one, as text for people.
    """

    name: BackendName
    reason: str


def select_backend(z0: Tensor, backend: Backend = "auto") -> BackendChoice:
    """Return which backend ``nt_xent_loss(z0, z1, backend=backend)`` runs, and why.

    ``"auto"`` is ``"fused"`` on the CPU, and on CUDA devices of compute capability 8.0 or newer for
    float32, bfloat16 and float16 views, if the kernels were compiled for them; else ``"tiled"``, on
    every device that torch supports. It is ``"reference"`` while a model is exported to ONNX, which
    lacks the operators of the other backends.

    Args:
        z0: Embeddings of the first views, [N, D].
        backend: The requested backend.

    Returns:
        The choice.

    Raises:
        ValueError: If there is no backend of that name.
        BackendUnavailableError: If the requested backend does not support these views.

    Example:
        >>> select_backend(torch.randn(8, 4)).name
        'fused'
        >>> select_backend(torch.randn(8, 4), "tiled")
        BackendChoice(name='tiled', reason='it was asked for')
    """
    check_backend(backend)
    if not isinstance(z0, Tensor):
        raise TypeError(f"z0 must be a torch.Tensor, got {type(z0).__name__}")
    name, obstacle = choose_backend(z0, backend)
    if obstacle is not None:
        return BackendChoice(name, obstacle)
    if name == backend:
        return BackendChoice(name, "it was asked for")
    if name == "reference":
        return BackendChoice(name, "ONNX has no operators like those of the others")
    return BackendChoice(name, _fused_reason(z0))


def choose_backend(z0: Tensor, backend: Backend) -> tuple[BackendName, str | None]:
    """Return which backend runs, and what keeps "auto" from the fused kernels, or None.

    The choice of :func:`select_backend` without its reasons, which take longer. The caller has
    checked both arguments.

    Raises:
        BackendUnavailableError: If the requested backend does not support these views.
    """
    if backend == "auto" and torch.compiler.is_compiling() and torch.onnx.is_in_onnx_export():
        return "reference", None
    if backend in ("tiled", "reference"):
        return backend, None
    obstacle = _fused_obstacle(z0)
    if obstacle is None:
        return "fused", None
    if backend == "auto":
        return "tiled", obstacle
    raise BackendUnavailableError(
        f"The fused NT-Xent kernels cannot run here: {obstacle}. Call nt_xent_loss(..., "
        "backend='tiled') for the same result in PyTorch operations, in O(N D) memory too."
    )


def check_backend(backend: str) -> None:
    """Raise ValueError if there is no backend of that name."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")


# Dynamo runs this while tracing: a warning cannot be part of the graph.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def warn_of_tiled_on_cuda(reason: str) -> None:
    """Warn, once per reason, that a CUDA device does not use the fused kernels."""
    _warn_once(reason)


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"NT-Xent runs as backend='tiled' on CUDA, slower than its fused kernels: {reason}. Pass "
        "backend='tiled' if this is intended.",
        stacklevel=4,
    )


def _fused_obstacle(z0: Tensor) -> str | None:
    """Return why the fused kernels do not support these views, or None."""
    if z0.device.type in ("cpu", "meta"):
        return None
    if z0.device.type != "cuda":
        return f"there are no fused kernels for device {z0.device}"
    if z0.dtype not in _CUDA_DTYPES:
        return f"the fused CUDA kernels take float32, bfloat16 and float16 views, got {z0.dtype}"
    if not HAS_PRODUCTS_OF_HALVES and z0.dtype != torch.float32 and _is_wide(z0):
        return (
            f"{z0.dtype} views with D > {_CUDA_MAX_DIM} need torch 2.8 or newer, whose products of "
            "halves have float32 results"
        )
    obstacle: str | None = _cuda_obstacle(z0.device)
    return obstacle


def _fused_reason(z0: Tensor) -> str:
    """Return why these views are fused, and for wide ones what that costs."""
    if z0.device.type != "cuda" or not _is_wide(z0):
        return f"there are fused kernels for device {z0.device}"
    memory = "64 MiB" if z0.dtype == torch.float32 else "64 MiB, and 32 MiB in the backward pass"
    return (
        f"cuBLAS multiplies views with D > {_CUDA_MAX_DIM}, in tiles of up to {memory}, and fused "
        f"kernels for device {z0.device} do the rest"
    )


def _is_wide(z0: Tensor) -> bool:
    # No message contains D: compiled code would be specialized for its value.
    return z0.shape[1] > _CUDA_MAX_DIM


# Dynamo runs this while tracing, instead of tracing into the loader.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _cuda_obstacle(device: torch.device) -> str | None:
    """Return why there are no fused kernels for a CUDA device, or None."""
    return _cached_cuda_obstacle(device)


@functools.cache  # so that a failed compilation is not repeated at every step
def _cached_cuda_obstacle(device: torch.device) -> str | None:
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        return (
            f"the fused CUDA kernels need compute capability {_version(MIN_CAPABILITY)}, and that "
            f"of {device} is {_version(capability)}"
        )
    try:
        architectures = loader.load().cuda_architectures
    except BackendUnavailableError as error:
        return str(error)
    if not architectures:
        return "the kernels were compiled without CUDA; simclr-ext doctor says why"
    if not any(runs_on(name, capability) for name in architectures):
        return (
            f"the kernels were compiled for {', '.join(architectures)}, and the compute capability "
            f"of {device} is {_version(capability)}"
        )
    return None


def _version(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)


def runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    """Return whether a GPU of this compute capability runs code for ``architecture``.

    Args:
        architecture: ``"sm_86"``: machine code, for this and later minor versions of the same major
            version; ``"sm_90a"``: for exactly this one; ``"compute_120"``: PTX, for this one and
            all newer ones.
        capability: Major and minor version.
    """
    kind, _, digits = architecture.partition("_")
    version = int(digits.rstrip("af"))
    major, minor = divmod(version, 10)
    if digits.endswith("a"):
        return capability == (major, minor)
    if kind == "compute":
        return capability >= (major, minor)
    return capability[0] == major and capability[1] >= minor
