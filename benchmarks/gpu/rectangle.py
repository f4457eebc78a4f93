"""Checks InfoNCE in both directions, a rectangle of queries and keys, against float64.

Its rows and its columns have losses and gradients: blocks of the same launches. The temperature is
where the rows are, so the kernels of both kinds of shifts are launched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from benchmarks.gpu.cases import Case, fused
from benchmarks.gpu.faults import compare
from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.precision import fp32_precision
from benchmarks.gpu.staged import row_weights
from simclr_ext import info_nce_loss
from simclr_ext.backends.selection import Backend
from simclr_ext.testing import ROUNDINGS

NAMES = ("loss", "grad_queries", "grad_keys", "grad_temperature")
_FLOAT = 2.0**-23


def jobs(
    context: Context,
    precisions: tuple[str, ...],
    dims: tuple[int, ...],
    sizes: tuple[int, ...],
    temperatures: tuple[float, ...],
) -> Jobs:
    """Yield a job for each combination."""
    device = torch.device(context.device)
    for case in fused(precisions, dims, sizes, temperatures):
        yield Job(case.key, partial(check, case, device))


def check(case: Case, device: torch.device) -> Row:
    """Compute a case twice and compare with float64."""
    z0, z1 = case.views(device)
    # Keys of other queries: right ones are so near that gradients vanish at small temperatures.
    views = (z0, z1.roll(1, dims=0))
    return compare(
        f"InfoNCE in both directions, {case.configuration}",
        NAMES,
        partial(loss_and_grads, case, views),
        case.precision.dtype,
        budgets(case, views),
    )


def loss_and_grads(
    case: Case, views: tuple[Tensor, Tensor], backend: str, dtype: torch.dtype
) -> list[Tensor]:
    """Return the losses [N], and the gradients of their weighted sum."""
    queries, keys = (z.detach().to(dtype).requires_grad_() for z in views)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    temperature = torch.tensor(case.held, dtype=wide, device=queries.device, requires_grad=True)
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


def budgets(case: Case, views: tuple[Tensor, Tensor]) -> dict[str, Callable[[Tensor], float]]:
    """Return what roundings may add to each quantity's error, given its exact value.

    An error of a similarity is one of 1 / T times its size in a logit, in the log-sum-exp, and in
    the logarithm of P_ij or, for positives, of 1 - P_ii, which beside 1 is rounded, too.
    """
    precision = case.precision
    norms = [z.double().norm(dim=1) for z in views]
    x, y = (z.double() / norm[:, None] for z, norm in zip(views, norms, strict=True))
    logits = x @ y.T / case.held
    gradient = row_weights(case.n, torch.float64, logits.device) / 2
    positive = torch.eye(case.n, dtype=torch.float64, device=logits.device)
    of_products = max(precision.product, _FLOAT) / case.held
    of_weights = max(precision.result, _FLOAT) + of_products

    def errors(softmax: Tensor) -> Tensor:
        return of_weights * (softmax - positive).abs() + _FLOAT * positive

    of_pairs = gradient[:, None] * errors(logits.softmax(1))
    of_pairs += gradient[None, :] * errors(logits.softmax(0))

    def of_loss(exact: Tensor) -> float:
        return ROUNDINGS * (_FLOAT * float(exact.norm()) + of_products * math.sqrt(exact.numel()))

    def of_rows(side: int, exact: Tensor) -> float:
        size = of_weights * float(exact.norm())
        size += float((of_pairs.sum(1 - side) / norms[side]).norm()) / case.held
        return ROUNDINGS * size + precision.least * math.sqrt(exact.numel())

    def of_temperature(_: Tensor) -> float:
        return ROUNDINGS * float((of_pairs * logits.abs()).sum()) / case.held

    allowed = (of_loss, partial(of_rows, 0), partial(of_rows, 1), of_temperature)
    return dict(zip(NAMES, allowed, strict=True))
