"""``simclr-ext doctor``: what is installed, what runs, whether it is correct, what to do."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import torch
from torch import Tensor

import simclr_ext
from simclr_ext._build_config import NoCuda
from simclr_ext.backends import loader
from simclr_ext.backends.selection import Backend, select_backend
from simclr_ext.options.extras import EXTRA_PACKAGES
from simclr_ext.testing import error_budget, error_norm

_QUANTITIES = ("loss", "grad_z0", "grad_z1", "grad_temperature")
# The fused CUDA kernels multiply 22 of float32's 24 bits (3xTF32).
_ROUNDING = 2.0**-22


def main() -> int:
    """Print the report; return 0 if every backend that runs here is correct, else 1."""
    _row("simclr-ext", simclr_ext.__version__)
    _row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    _row("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    _row("C++ compiler", _compiler())
    _row("trainer", _trainer())
    try:
        module = loader.load()
    except simclr_ext.BackendUnavailableError as error:
        _row("kernels", "unavailable")
        print(f"\n{error}")
        return 1
    _row(
        "kernels",
        f"built {loader.how_built(module)} by {module.compiler} for torch "
        f"{module.torch_version}, {module.__file__}",
    )
    _row("instruction set", f"{module.active_isa()} of {', '.join(module.available_isas())}")
    _row("CUDA kernels", _cuda_kernels(module))
    worst = largest(self_test_row(device) for device in [torch.device("cpu"), *_gpus()])
    if not worst <= 1:  # NaN fails
        print("\nThe loss is wrong here. Please report this with the lines above.")
        return 1
    print("\nAll is well.")
    return 0


def self_test_row(device: torch.device) -> float:
    """Print which backend a device uses and the errors of all it can run; return the largest."""
    choice = select_backend(torch.empty(1, 1, device=device))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "float32 views"
    _row(str(device), f"{name}: {choice.name}, since {choice.reason}")
    worst: list[float] = []
    for backend in dict.fromkeys((choice.name, "tiled")):
        errors = self_test(backend, device)
        listed = ", ".join(f"{quantity} {error:.2f}" for quantity, error in errors.items())
        _row("  self-test", f"{backend}: {listed} of the error budget")
        worst.extend(errors.values())
    return largest(worst)


def largest(errors: Iterable[float]) -> float:
    """Return the largest; NaN is larger than all."""
    return max(errors, key=lambda error: (math.isnan(error), error))


def self_test(backend: Backend = "fused", device: torch.device | str = "cpu") -> dict[str, float]:
    """Return the errors of loss and gradients divided by their error budgets; above 1 is wrong.

    Errors are against the float64 reference on the CPU; budgets are from `simclr_ext.testing`.
    """
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2, 300, 33, generator=generator)
    temperature = torch.tensor(0.2)

    def loss_and_grads(
        dtype: torch.dtype, backend: Backend, device: torch.device | str
    ) -> list[Tensor]:
        inputs = [x.to(device, dtype).requires_grad_() for x in (*views, temperature)]
        loss = simclr_ext.nt_xent_loss(*inputs, reduction="none", backend=backend)
        return [loss.detach().cpu()] + [x.cpu() for x in torch.autograd.grad(loss.mean(), inputs)]

    ours = loss_and_grads(torch.float32, backend, device)
    eager = loss_and_grads(torch.float32, "reference", "cpu")
    exact = loss_and_grads(torch.float64, "reference", "cpu")
    shares = {}
    for name, value, other, truth in zip(_QUANTITIES, ours, eager, exact, strict=True):
        budget = error_budget(
            name,
            truth,
            other,
            views.flatten(0, 1),
            temperature.item(),
            rounding=_ROUNDING,
            logit_rounding=_ROUNDING,
        )
        shares[name] = error_norm(value, truth) / budget
    return shares


def _gpus() -> list[torch.device]:
    count = len(loader.visible_capabilities())
    return [torch.device("cuda", index) for index in range(count)]


def _cuda_kernels(module: ModuleType) -> str:
    if module.cuda_architectures:
        return f"for {', '.join(module.cuda_architectures)}, by CUDA {module.cuda_version}"
    if loader.how_built(module) == "ahead of time":
        return (
            "none; to have them, reinstall with --no-build-isolation and SIMCLR_EXT_CUDA=1 where "
            "there is a CUDA toolkit"
        )
    cuda = loader.cuda_build()
    return f"none: {cuda.reason}" if isinstance(cuda, NoCuda) else "none"


def _compiler() -> str:
    command = os.environ.get("CXX", "c++")
    path = shutil.which(command)
    if path is None:
        return f"{command!r} not found; needed only to compile the kernels (apt-get install g++)"
    result = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return f"{path}: {result.stdout.splitlines()[0] if result.stdout else result.stderr.strip()}"


def _trainer() -> str:
    found, missing = [], []
    for package in EXTRA_PACKAGES.values():
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return f"lacks {', '.join(missing)}; to train: pip install 'simclr-ext[trainer]'"
    return ", ".join(found)


def _row(name: str, value: str) -> None:
    print(f"{name:16} {value}")
