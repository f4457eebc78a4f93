"""What gpu_check.py runs: cases against float64, each with an error budget.

The budget of an error, that of tests/cuda_host/test_fused.cpp: twice the error of the dense
computation in float32, plus a few roundings at the natural size of the quantity.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from simclr_ext import nt_xent_loss

NAMES = ("loss", "grad_z0", "grad_z1", "grad_temperature")
ROUNDINGS = 8
Row = dict[str, object]


@dataclass(frozen=True)
class Precision:
    """How views are stored and multiplied, and what that costs.

    Args:
        name: For people.
        dtype: Of the views.
        product: Relative rounding of what is multiplied first, the similarities' factors.
        result: Relative rounding of the weights and of the result.
        least: Smallest positive number of the result.
        mode: ``torch.backends.cuda.matmul.fp32_precision``.
    """

    name: str
    dtype: torch.dtype
    product: float
    result: float
    least: float = 0.0
    mode: str = "ieee"


# Of float32's 24 bits the fused CUDA kernels multiply 22, as three products in TF32.
FLOAT32 = Precision("float32", torch.float32, 2**-22, 2**-23)
TF32 = Precision("float32 (tf32)", torch.float32, 2**-11, 2**-11, mode="tf32")
BFLOAT16 = Precision("bfloat16", torch.bfloat16, 2**-23, 2**-8)
FLOAT16 = Precision("float16", torch.float16, 2**-23, 2**-11, 2**-24)
FLOAT64 = Precision("float64", torch.float64, 2**-52, 2**-52)


@dataclass(frozen=True)
class Case:
    """One pair of views [N, D] and how its loss is asked for.

    Args:
        kind: ``"related"``: random views; ``"strided"``: views that are not contiguous; ``"zero
            row"``: the first row is 0; ``"large"``: too many pairs for a dense reference.
    """

    backend: str
    precision: Precision
    n: int
    d: int
    temperature: float = 0.5
    normalize: bool = True
    kind: str = "related"

    def row(self) -> Row:
        """Return what names the case in the results."""
        return asdict(self) | {"precision": self.precision.name}


@dataclass(frozen=True)
class Plan:
    """Which cases are checked and which sizes are timed."""

    dims: tuple[int, ...] = (1, 7, 31, 32, 33, 64, 65, 100, 128, 129, 200, 256)
    tiled_dims: tuple[int, ...] = (300,)  # wider than the fused CUDA kernels take
    sizes: tuple[int, ...] = (1, 2, 33, 205, 1000)
    temperatures: tuple[float, ...] = (0.005, 0.01, 0.0249, 0.0253, 0.1, 0.5, 10.0)
    large: tuple[int, int] | None = (24_000, 64)  # (2N)^2 > 2^31
    timed: tuple[int, ...] = (512, 2048, 8192, 16_384, 32_768, 65_536)
    timed_dims: tuple[int, ...] = (64, 128, 256)
    rounds: int = 9

    def cases(self, backend: str, device: torch.device) -> Iterator[Case]:
        """Yield the cases of a backend, those that are quick to run first."""
        for precision in precisions(backend, device):
            for kind in ("strided", "zero row"):
                yield Case(backend, precision, 50, 14, kind=kind)
            for temperature in self.temperatures:
                for n in (5, 101):
                    yield Case(backend, precision, n, 24, temperature)
            for n, d, temperature in ((3, 12, 0.5), (90, 12, 2.0), (210, 40, 1.0)):
                yield Case(backend, precision, n, d, temperature, normalize=False)
            for d in self.dims + self.tiled_dims * (backend == "tiled"):
                for n in self.sizes:
                    yield Case(backend, precision, n, d)
            if self.large is not None and precision.dtype != torch.float64:
                yield Case(backend, precision, *self.large, kind="large")


FULL = Plan()
QUICK = Plan(sizes=(1, 2, 33, 205), large=None, timed=(512, 4096), timed_dims=(128,), rounds=5)
# Runs under compute-sanitizer, a hundred times slower.
SANITIZED = Plan((7, 64, 129), (), (2, 33), (0.01, 0.5), None, ())


def precisions(backend: str, device: torch.device) -> list[Precision]:
    """Return the precisions in which a backend computes on a device."""
    found = [FLOAT32, BFLOAT16, FLOAT16]
    if device.type == "cuda":
        found.insert(1, TF32)
    return [*found, FLOAT64] if backend == "tiled" else found


@contextlib.contextmanager
def fp32_precision(mode: str) -> Iterator[None]:
    """Multiply float32 matrices on CUDA in this mode, ``"ieee"`` or ``"tf32"``."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = mode
    try:
        yield
    finally:
        matmul.fp32_precision = before


def views_of(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return views as similar as those of a half-trained encoder, rows of many lengths."""
    generator = torch.Generator().manual_seed(case.n * 1000 + case.d)
    z0 = torch.randn(case.n, case.d, generator=generator)
    z1 = z0 + 0.8 * torch.randn(case.n, case.d, generator=generator)
    z0 = z0 * torch.rand(case.n, 1, generator=generator).add(0.2)
    if case.kind == "zero row":
        z0[0] = 0
    z0, z1 = (z.to(device, case.precision.dtype) for z in (z0, z1))
    if case.kind == "strided":
        z0 = z0.t().contiguous().t()
        z1 = torch.stack([z1, z1], dim=2)[:, :, 0]
    return z0, z1


def loss_and_grads(
    case: Case, views: tuple[Tensor, Tensor], backend: str, dtype: torch.dtype, mode: str = "ieee"
) -> list[Tensor]:
    """Return the losses [2N], and the gradients of their weighted sum."""
    # No copy for the dtype that the views have, so strides stay.
    z0, z1 = (z.detach().to(dtype).requires_grad_() for z in views)
    # The temperature that float32 holds, not its decimal.
    held = torch.tensor(case.temperature, dtype=torch.float32, device=z0.device)
    t = held.to(torch.float64 if dtype == torch.float64 else torch.float32).requires_grad_()
    eps = 1e-3 if case.kind == "zero row" else None
    with fp32_precision(mode):
        loss = nt_xent_loss(
            z0, z1, t, reduction="none", normalize=case.normalize, eps=eps, backend=backend
        )
        # Weights that tell every row from the others.
        weights = torch.linspace(0.5, 1.5, len(loss), dtype=loss.dtype, device=loss.device)
        return [loss.detach(), *torch.autograd.grad(loss @ weights / len(loss), (z0, z1, t))]


@dataclass(frozen=True)
class Outcome:
    """What a case gave: its faults, if any, and each error as a share of its budget."""

    faults: list[str] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)


def check(case: Case, device: torch.device) -> Outcome:
    """Compute a case twice and compare it with float64."""
    views = views_of(case, device)
    precision = case.precision
    ours, again = (
        loss_and_grads(case, views, case.backend, precision.dtype, precision.mode) for _ in range(2)
    )
    # A dense reference of the large case fits no memory. Tiles in float64 pass all other cases.
    large = case.kind == "large"
    truth = loss_and_grads(case, views, "tiled" if large else "reference", torch.float64)
    dense = truth if large else loss_and_grads(case, views, "reference", torch.float32)
    if precision.dtype == torch.float64:
        dense = truth  # the reference's error in float32 would allow everything
    outcome = Outcome()
    for name, value, repeated, exact, other in zip(NAMES, ours, again, truth, dense, strict=True):
        if value.shape != exact.shape:
            outcome.faults.append(f"{name}: shape {tuple(value.shape)}")
            continue
        error = (value.double() - exact).norm().item()
        least = precision.least * math.sqrt(exact.numel())
        budget = 2 * (other.double() - exact).norm().item() + least
        budget += ROUNDINGS * allowance(case, name, views, exact)
        outcome.used[name] = error / budget
        if not error <= budget:  # NaN is no pass
            outcome.faults.append(f"{name}: error {error:.2e}, budget {budget:.2e}")
        if not torch.equal(value, repeated):
            outcome.faults.append(f"{name}: other bits in a second run")
    return outcome


def allowance(case: Case, name: str, views: tuple[Tensor, Tensor], exact: Tensor) -> float:
    """Return one rounding of a quantity: its epsilon times the size of the terms it sums."""
    norms = torch.cat(views).double().norm(dim=1)
    rows, t = len(norms), case.temperature
    product, result = case.precision.product, case.precision.result
    square = 1.0 if case.normalize else norms.max().item() ** 2
    if name == "loss":
        return product * (exact.norm().item() + math.sqrt(rows) * square / t)
    # An error of a similarity is one of 1 / T times its size in a logit, hence in a probability.
    epsilon = result + product * square / t
    if name == "grad_temperature":
        return epsilon * square / t**2
    least = 1e-3 if case.kind == "zero row" else 1e-12
    length = 1 / norms.clamp_min(least).min().item() if case.normalize else norms.max().item()
    return epsilon * (exact.norm().item() + length / t / math.sqrt(rows))


def zero_rows_are_finite(case: Case, device: torch.device) -> Outcome:
    """Check the gradients of a row of zeros under the default eps."""
    z0, z1 = (z.requires_grad_() for z in views_of(case, device))
    with fp32_precision(case.precision.mode):
        loss = nt_xent_loss(z0, z1, case.temperature, backend=case.backend)
        grads = torch.autograd.grad(loss, (z0, z1))
    finite = all(bool(x.isfinite().all()) for x in (loss, *grads))
    return Outcome([] if finite else ["loss or gradients of a row of zeros are not finite"])


def run_cases(plan: Plan, backend: str, device: torch.device) -> Iterator[Row]:
    """Yield the result of each case; what is raised is a fault of the case."""
    for case in plan.cases(backend, device):
        checks: list[Callable[[Case, torch.device], Outcome]] = [check]
        if case.kind == "zero row":
            checks.append(zero_rows_are_finite)
        faults, used = [], {}
        for function in checks:
            try:
                outcome = function(case, device)
            except Exception as error:  # whatever it is: the other cases are still of interest
                outcome = Outcome([f"{type(error).__name__}: {error}"])
            faults += outcome.faults
            used |= outcome.used
        yield case.row() | {"faults": faults, "budget_used": used}
