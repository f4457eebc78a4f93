"""Checks the by-products of the loss against float64, through the public function."""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor

from benchmarks.gpu.cases import Case, fused
from benchmarks.gpu.faults import Comparison
from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.precision import fp32_precision
from simclr_ext import nt_xent_loss_with_stats
from simclr_ext.backends.selection import Backend
from simclr_ext.testing import ROUNDINGS
from simclr_ext.testing.budget import error_norm

_FLOAT = 2.0**-23
_INDEX = "hardest_index"


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
        yield Job(case.key, functools.partial(check, case, device))


def check(case: Case, device: torch.device) -> Row:
    """Compute a case twice and compare with float64."""
    views = case.views(device)
    ours, again = (quantities(case, views, "fused", case.precision.dtype) for _ in range(2))
    truth, eager = (
        quantities(case, views, "reference", dtype) for dtype in (torch.float64, torch.float32)
    )
    allowed = budgets(case, truth)
    comparison = Comparison(f"by-products, {case.configuration}")
    for name, value in ours.items():
        if not torch.equal(value, again[name]):
            comparison.fault(name, problem="other bits in a second run")
        if name != _INDEX:
            budget = 2 * error_norm(eager[name], truth[name]) + ROUNDINGS * allowed[name]
            comparison.add(name, value, truth[name], budget)
    check_hardest(case, views, ours, comparison)
    return comparison.row()


def quantities(
    case: Case, views: tuple[Tensor, Tensor], backend: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return the losses [2N] and all by-products."""
    z0, z1 = (z.to(dtype) for z in views)
    with fp32_precision(case.precision.mode if backend == "fused" else "ieee"):
        loss, stats = nt_xent_loss_with_stats(
            z0, z1, case.held, reduction="none", eps=case.eps, backend=cast(Backend, backend)
        )
    return {"loss": loss} | stats._asdict()


def budgets(case: Case, truth: dict[str, Tensor]) -> dict[str, float]:
    """Return one rounding of each quantity at its natural size.

    As in tests/cuda_host/test_stats.cpp. The entropy is a difference of the lse and a logit, and of
    the uniformity's mean the relative error counts.
    """
    product = max(case.precision.product, _FLOAT)
    root = len(truth["lse"]) ** 0.5
    logit = product / case.held
    lse = root * logit + _FLOAT * float(truth["lse"].norm())
    # An error of the logits is one of the weights of the mean similarity.
    mean = root * (product + logit + _FLOAT)
    return {
        "loss": lse + root * logit,
        "lse": lse,
        "positive_similarity": root * product,
        "hardest_similarity": root * product,
        "entropy": lse + mean / case.held,
        "uniformity": 4 * product + 2.0**-21 + _FLOAT * float(truth["uniformity"].abs()),
    }


def check_hardest(
    case: Case, views: tuple[Tensor, Tensor], ours: dict[str, Tensor], comparison: Comparison
) -> None:
    """Check that the hardest negative is a negative, and as similar as was said."""
    unit = torch.nn.functional.normalize(torch.cat(views).double(), dim=1)
    index = ours[_INDEX]
    rows = torch.arange(len(index), device=index.device)
    if bool(((index - rows) % case.n == 0).any()):
        comparison.fault(_INDEX, problem="a positive, or the row itself")
    similarity = (unit * unit[index]).sum(1)
    budget = 2 * ROUNDINGS * len(index) ** 0.5 * max(case.precision.product, _FLOAT)
    comparison.add(_INDEX, ours["hardest_similarity"], similarity, budget)
