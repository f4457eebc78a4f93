"""Checks InfoNCE in both directions, a rectangle of queries and keys, against float64.

Its rows and its columns have losses and gradients: blocks of the same launches. The temperature is
where the rows are, so the kernels of both kinds of shifts are launched.
"""

from __future__ import annotations

import functools
import itertools
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
from simclr_ext import info_nce_loss
from simclr_ext.backends.selection import Backend
from simclr_ext.testing import ROUNDINGS

NAMES = ("loss", "grad_queries", "grad_keys", "grad_temperature")
_FLOAT = 2.0**-23


@dataclass(frozen=True)
class Case:
    """Queries and keys, [N, D] each, and their temperature.

    Attributes:
        precision: Of queries and keys.
        n: N.
        d: D.
        temperature: Exact in float32.
    """

    precision: Precision
    n: int
    d: int
    temperature: float

    @property
    def key(self) -> str:
        """Name the case in the results."""
        return f"{self.precision.name} N={self.n} D={self.d} T={self.temperature:g}"

    def rows(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return queries and keys as similar as those of a half-trained encoder."""
        generator = torch.Generator().manual_seed(self.n * 1000 + self.d)
        queries = torch.randn(self.n, self.d, generator=generator)
        keys = torch.randn(self.n, self.d, generator=generator) + 1.25 * queries
        return queries.to(device, self.precision.dtype), keys.to(device, self.precision.dtype)


def jobs(
    context: Context,
    precisions: tuple[str, ...],
    dims: tuple[int, ...],
    sizes: tuple[int, ...],
    temperatures: tuple[float, ...],
) -> Jobs:
    """Yield a job for each combination of precision, D, N and T."""
    device = torch.device(context.device)
    for precision, n, d, temperature in itertools.product(precisions, sizes, dims, temperatures):
        case = Case(PRECISIONS[precision], n, d, temperature)
        yield Job(case.key, functools.partial(check, case, device))


def check(case: Case, device: torch.device) -> Row:
    """Compute a case twice and compare with float64."""
    rows = case.rows(device)
    return compare(
        f"InfoNCE in both directions, {case.precision.name}",
        NAMES,
        functools.partial(loss_and_grads, case, rows),
        case.precision.dtype,
        budgets(case, rows),
    )


def loss_and_grads(
    case: Case, rows: tuple[Tensor, Tensor], backend: str, dtype: torch.dtype
) -> list[Tensor]:
    """Return the losses [N], and the gradients of their weighted sum."""
    queries, keys = (z.detach().to(dtype).requires_grad_() for z in rows)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    temperature = torch.tensor(
        case.temperature, dtype=wide, device=queries.device, requires_grad=True
    )
    with fp32_precision(case.precision.mode if backend == "fused" else "ieee"):
        loss = info_nce_loss(
            queries,
            keys,
            temperature,
            symmetric=True,
            reduction="none",
            backend=cast(Backend, backend),
        )
        weights = row_weights(len(loss), loss.dtype, loss.device)
        grads = torch.autograd.grad(loss @ weights, (queries, keys, temperature))
    return [loss.detach(), *grads]


def budgets(case: Case, rows: tuple[Tensor, Tensor]) -> dict[str, Callable[[Tensor], float]]:
    """Return what roundings may add to each quantity's error, given its exact value.

    An error of a similarity is one of 1 / T times its size in a logit, in the log-sum-exp, and in
    the logarithm of a weight.
    """
    precision = case.precision
    x, y = (torch.nn.functional.normalize(z.double(), dim=1) for z in rows)
    logits = x @ y.T / case.temperature
    gradient = row_weights(case.n, torch.float64, logits.device) / 2
    positive = torch.eye(case.n, dtype=torch.float64, device=logits.device)
    slopes = gradient[:, None] * (logits.softmax(1) + positive)
    slopes += gradient[None, :] * (logits.softmax(0) + positive)
    of_products = max(precision.product, _FLOAT) / case.temperature
    of_weights = max(precision.result, _FLOAT) + of_products
    length = 1 / min(float(z.double().norm(dim=1).min()) for z in rows)
    weights = float(slopes.sum(1).norm() + slopes.sum(0).norm()) / case.temperature

    def of_loss(exact: Tensor) -> float:
        return ROUNDINGS * (_FLOAT * float(exact.norm()) + of_products * math.sqrt(exact.numel()))

    def of_rows(exact: Tensor) -> float:
        size = float(exact.norm()) + length * weights
        return ROUNDINGS * of_weights * size + precision.least * math.sqrt(exact.numel())

    def of_temperature(_: Tensor) -> float:
        return ROUNDINGS * of_weights * float((slopes * logits.abs()).sum()) / case.temperature

    return dict(zip(NAMES, (of_loss, of_rows, of_rows, of_temperature), strict=True))
