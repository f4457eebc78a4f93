"""Checks the sigmoid loss and all of its gradients against float64, through the public function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from benchmarks.gpu.faults import compare
from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.precision import PRECISIONS, Precision, fp32_precision
from benchmarks.gpu.staged import row_weights
from simclr_ext import siglip_loss
from simclr_ext.backends.selection import Backend
from simclr_ext.testing import ROUNDINGS

NAMES = ("loss", "grad_queries", "grad_keys", "grad_scale", "grad_bias")
_FLOAT = 2.0**-23


@dataclass(frozen=True)
class Case:
    """Queries [N, D] and keys [K, D] with their scale and bias.

    Attributes:
        precision: Of queries and keys.
        queries: N.
        keys: K, at least N.
        d: D.
        scale: Exact in float32, like the bias.
        bias: Of all pairs.
    """

    precision: Precision
    queries: int
    keys: int
    d: int
    scale: float = 10.0
    bias: float = -10.0

    @property
    def key(self) -> str:
        """Name the case in the results."""
        size = f"N={self.queries} K={self.keys} D={self.d}"
        return f"{self.precision.name} {size} scale={self.scale:g} bias={self.bias:g}"

    def rows(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return queries and keys as similar as those of a half-trained encoder."""
        generator = torch.Generator().manual_seed(self.keys * 1000 + self.d)
        queries = torch.randn(self.queries, self.d, generator=generator)
        keys = torch.randn(self.keys, self.d, generator=generator)
        keys[: self.queries] += 1.25 * queries
        queries *= torch.rand(self.queries, 1, generator=generator).add(0.2)
        return queries.to(device, self.precision.dtype), keys.to(device, self.precision.dtype)


def jobs(
    context: Context,
    precisions: tuple[str, ...],
    sizes: tuple[tuple[int, int, int], ...],
    scalars: tuple[tuple[float, float], ...],
) -> Jobs:
    """Yield a job for each combination of precision, (N, K, D), and (scale, bias)."""
    device = torch.device(context.device)
    for precision in precisions:
        for queries, keys, d in sizes:
            for scale, bias in scalars:
                case = Case(PRECISIONS[precision], queries, keys, d, scale, bias)
                yield Job(case.key, functools.partial(check, case, device))


def check(case: Case, device: torch.device) -> Row:
    """Compute a case twice and compare with float64."""
    rows = case.rows(device)
    return compare(
        f"sigmoid loss, {case.precision.name}",
        NAMES,
        functools.partial(loss_and_grads, case, rows),
        case.precision.dtype,
        budgets(case, rows),
    )


def loss_and_grads(
    case: Case, rows: tuple[Tensor, Tensor], backend: str, dtype: torch.dtype
) -> list[Tensor]:
    """Return the losses [N], and the gradients of their weighted sum.

    Scale and bias are where the rows are: the host must not wait for them.
    """
    queries, keys = (z.detach().to(dtype).requires_grad_() for z in rows)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale, bias = (
        torch.tensor(value, dtype=wide, device=queries.device, requires_grad=True)
        for value in (case.scale, case.bias)
    )
    with fp32_precision(case.precision.mode if backend == "fused" else "ieee"):
        loss = siglip_loss(
            queries, keys, scale, bias, reduction="none", backend=cast(Backend, backend)
        )
        weights = row_weights(len(loss), loss.dtype, loss.device)
        grads = torch.autograd.grad(loss @ weights, (queries, keys, scale, bias))
    return [loss.detach(), *grads]


def budgets(case: Case, rows: tuple[Tensor, Tensor]) -> dict[str, Callable[[Tensor], float]]:
    """Return what roundings may add to each quantity's error, given its exact value.

    As in tests/cuda_host/test_sigmoid.cpp: an error of a similarity is one of scale times its size
    in u, and in the logarithm of a probability.
    """
    precision = case.precision
    x, y = (torch.nn.functional.normalize(z.double(), dim=1) for z in rows)
    u = case.scale * x @ y.T + case.bias
    sign = torch.ones_like(u)
    sign.fill_diagonal_(-1)
    slopes = torch.sigmoid(sign * u)
    steepness = row_weights(case.queries, torch.float64, u.device)[:, None] * slopes
    of_products = max(precision.product, _FLOAT) * (case.scale + abs(case.bias))
    of_weights = max(precision.result, _FLOAT) + of_products
    length = 1 / min(float(z.double().norm(dim=1).min()) for z in rows)
    weights = float(steepness.sum(1).norm() + steepness.sum(0).norm())

    def of_loss(exact: Tensor) -> float:
        return ROUNDINGS * (
            _FLOAT * float(exact.norm()) + of_products * float(slopes.sum(1).norm())
        )

    def of_rows(exact: Tensor) -> float:
        size = float(exact.norm()) + length * case.scale * weights
        return ROUNDINGS * of_weights * size + precision.least * math.sqrt(exact.numel())

    def of_scalar(_: Tensor) -> float:
        return ROUNDINGS * of_weights * float(steepness.sum())

    return dict(zip(NAMES, (of_loss, of_rows, of_rows, of_scalar, of_scalar), strict=True))
