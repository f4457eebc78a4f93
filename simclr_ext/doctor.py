"""``simclr-ext doctor``: what is installed, what will run, whether it is right, what to do."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

import simclr_ext
from simclr_ext import _backend
from simclr_ext.selection import Backend
from simclr_ext.trainer import EXTRA_PACKAGES


def main() -> int:
    """Print the report; return 0 if the fused loss works here, else 1."""
    _row("simclr-ext", simclr_ext.__version__)
    _row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    _row("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    _row("C++ compiler", _compiler())
    _row("trainer", _trainer())
    try:
        module = _backend.load()
    except _backend.BackendUnavailableError as error:
        _row("kernels", "unavailable")
        print(f"\n{error}")
        return 1
    _row(
        "kernels",
        f"built {_backend.how_built(module)} by {module.compiler} for torch "
        f"{module.torch_version}, {module.__file__}",
    )
    _row("instruction set", f"{module.active_isa()} of {', '.join(module.available_isas())}")
    _row("backends", "CPU tensors: fused; other devices: reference only, and only if asked for")
    errors = self_test()
    _row("self-test", ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    if max(errors.values()) > 1e-5:
        print("\nThe kernels compute wrong results here. Please report this with the lines above.")
        return 1
    print("\nAll is well.")
    return 0


def self_test() -> dict[str, float]:
    """Return the relative errors of the fused loss and gradients against the float64 reference."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2, 300, 33, generator=generator)
    temperature = torch.tensor(0.2)

    def loss_and_grads(dtype: torch.dtype, backend: Backend) -> list[Tensor]:
        inputs = [x.to(dtype).requires_grad_() for x in (*views, temperature)]
        loss = simclr_ext.nt_xent_loss(*inputs, backend=backend)
        return [loss.detach(), *torch.autograd.grad(loss, inputs)]

    fused = loss_and_grads(torch.float32, "fused")
    exact = loss_and_grads(torch.float64, "reference")
    names = ("loss", "gradient of z0", "of z1", "of temperature")
    return {
        name: float((ours.double() - truth).norm() / truth.norm())
        for name, ours, truth in zip(names, fused, exact, strict=True)
    }


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
