"""Checks loss and gradients of a case against float64, through the public function."""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor

from benchmarks.gpu import staged
from benchmarks.gpu.cases import NAMES, Case, budget, of_table
from benchmarks.gpu.faults import Comparison
from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.precision import fp32_precision
from benchmarks.gpu.sizes import Table
from simclr_ext import nt_xent_loss
from simclr_ext.backends.selection import Backend


def jobs(context: Context, table: Table, backend: str, precisions: tuple[str, ...]) -> Jobs:
    """Yield a job for each case of the table."""
    device = torch.device(context.device)
    for precision in precisions:
        for case in of_table(table, backend, precision):
            yield Job(case.key, functools.partial(check, case, device))


def check(case: Case, device: torch.device) -> Row:
    """Compute a case twice and compare with float64; if a fused case fails, stage by stage."""
    views = case.views(device)
    mode = case.precision.mode
    ours, again = (
        loss_and_grads(case, views, case.backend, case.precision.dtype, mode) for _ in range(2)
    )
    # A dense reference of the large case exceeds memory. Tiles in float64 pass all other cases.
    large = case.kind == "large"
    truth = loss_and_grads(case, views, "tiled" if large else "reference", torch.float64)
    # The error of a float32 reference would be a meaningless budget for float64.
    exactly = large or case.precision.dtype == torch.float64
    eager = truth if exactly else loss_and_grads(case, views, "reference", torch.float32)
    comparison = Comparison(case.configuration)
    for name, value, repeated, exact, other in zip(NAMES, ours, again, truth, eager, strict=True):
        comparison.add(name, value, exact, budget(case, name, views, exact, other))
        if not torch.equal(value, repeated):
            comparison.fault(name, problem="other bits in a second run")
    if case.kind == "zero row":
        check_zero_row(case, device, comparison)
    row = comparison.row()
    if comparison.faults and case.backend == "fused" and not large:
        row["stages"] = staged.check(case, device)["faults"]
    return row


def loss_and_grads(
    case: Case, views: tuple[Tensor, Tensor], backend: str, dtype: torch.dtype, mode: str = "ieee"
) -> list[Tensor]:
    """Return the losses [2N], and the gradients of their weighted sum."""
    # No copy if the dtype is the same, so strides stay.
    z0, z1 = (z.detach().to(dtype).requires_grad_() for z in views)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    t = torch.tensor(case.held, dtype=wide, device=z0.device, requires_grad=True)
    with fp32_precision(mode):
        loss = nt_xent_loss(
            z0,
            z1,
            t,
            reduction="none",
            normalize=case.normalize,
            eps=case.eps,
            backend=cast(Backend, backend),
        )
        weights = staged.row_weights(len(loss), loss.dtype, loss.device)
        return [loss.detach(), *torch.autograd.grad(loss @ weights, (z0, z1, t))]


def check_zero_row(case: Case, device: torch.device, comparison: Comparison) -> None:
    """Check that a row of zeros gives finite numbers with the default eps too."""
    z0, z1 = (z.requires_grad_() for z in case.views(device))
    with fp32_precision(case.precision.mode):
        loss = nt_xent_loss(z0, z1, case.temperature, backend=cast(Backend, case.backend))
        grads = torch.autograd.grad(loss, (z0, z1))
    for name, value in zip(NAMES, (loss, *grads), strict=False):
        if not bool(value.isfinite().all()):
            comparison.fault(name, problem="not finite for a row of zeros under the default eps")
