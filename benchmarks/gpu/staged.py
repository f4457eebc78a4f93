"""Checks the fused kernels separately, each from exact inputs: one fault does not hide another.

prepare    rows, norms and padding against the views
forward    sums and positives against the rows that prepare stored, right or wrong
backward   gradients, from the exact loss, lse and rows
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from benchmarks.gpu import operators
from benchmarks.gpu.cases import Case, budget, fused
from benchmarks.gpu.faults import Comparison
from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.precision import fp32_precision
from simclr_ext import nt_xent_loss
from simclr_ext.testing import ROUNDINGS

_FLOAT = 2.0**-23


def jobs(
    context: Context,
    precisions: tuple[str, ...],
    dims: tuple[int, ...],
    sizes: tuple[int, ...],
    temperatures: tuple[float, ...],
) -> Jobs:
    """Yield a job for each combination: every precision, class of D, and kind of shift."""
    device = torch.device(context.device)
    for case in fused(precisions, dims, sizes, temperatures):
        yield Job(case.key, functools.partial(check_uninitialized, case, device))


def check_uninitialized(case: Case, device: torch.device) -> Row:
    """Check a case with unwritten memory filled with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        return check(case, device)
    finally:
        torch.use_deterministic_algorithms(before)


def check(case: Case, device: torch.device) -> Row:
    """Check a case stage by stage."""
    views = case.views(device)
    comparison = Comparison(case.configuration)
    with fp32_precision(case.precision.mode):
        saved = operators.forward(*views, case.held, case.normalize, case.eps)
    check_prepare(case, views, saved, comparison)
    check_forward(case, views, saved, comparison)
    check_backward(case, views, comparison)
    return comparison.row()


def check_prepare(
    case: Case, views: tuple[Tensor, Tensor], saved: operators.Saved, comparison: Comparison
) -> None:
    """Compare the stored rows and their norms with the views."""
    x = torch.cat(views).double()
    product = max(case.precision.product, _FLOAT)
    least = case.precision.least * x.numel() ** 0.5
    if case.normalize:
        inv_norm = 1 / x.norm(dim=1).clamp_min(case.eps)
        allowed = ROUNDINGS * _FLOAT * inv_norm.norm().item()
        comparison.add("inv_norm", saved.inv_norm, inv_norm, allowed, "prepare_kernel")
        x = x * inv_norm[:, None]
    rows = operators.unit_rows(saved, case.d)
    allowed = ROUNDINGS * product * x.norm().item() + least
    comparison.add("rows", rows, x, allowed, "prepare_kernel")
    zeros = operators.padding(saved, case.d).double()
    comparison.add("padding", zeros, torch.zeros_like(zeros), 0.0, "prepare_kernel")


def check_forward(
    case: Case, views: tuple[Tensor, Tensor], saved: operators.Saved, comparison: Comparison
) -> None:
    """Compare lse, positives and losses with those computed from the stored rows."""
    rows = operators.unit_rows(saved, case.d)
    lse, positive = dense_sums(rows, case.held)
    eager_lse, eager_positive = dense_sums(rows.float(), case.held)
    parts = {
        "lse": (saved.lse, lse, eager_lse, "forward_kernel (sums) or finish_kernel"),
        "positive": (
            saved.lse - saved.loss.double(),
            positive,
            eager_positive,
            "forward_kernel (positives) or finish_kernel",
        ),
        "loss": (saved.loss, lse - positive, eager_lse - eager_positive, "finish_kernel"),
    }
    for name, (found, exact, eager, kernel) in parts.items():
        comparison.add(name, found, exact, budget(case, name, views, exact, eager), kernel)


def dense_sums(rows: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return lse and the logit of the positive [2N] of rows [2N, D], with the whole matrix."""
    logits = rows @ rows.T / temperature
    logits.fill_diagonal_(-torch.inf)
    index = torch.arange(len(rows), device=rows.device)
    return logits.logsumexp(1), logits[index, index.roll(len(rows) // 2)]


def check_backward(case: Case, views: tuple[Tensor, Tensor], comparison: Comparison) -> None:
    """Compare the gradients that the backward operator computes from exact inputs."""
    (loss, lse), exact = dense_gradients(case, views, torch.float64)
    _, eager = dense_gradients(case, views, torch.float32)
    saved = operators.saved_exactly(case, views, loss, lse)
    weights = row_weights(len(loss), torch.float32, loss.device)
    with fp32_precision(case.precision.mode):
        grad_z, grad_temperature = operators.backward(weights, saved, case.held, case.d, case.eps)
    found = (grad_z[: case.n], grad_z[case.n :], grad_temperature.to(loss.device))
    names = ("grad_z0", "grad_z1", "grad_temperature")
    for name, value, truth, other in zip(names, found, exact, eager, strict=True):
        kernel = "backward_kernel, gradient_kernel or terms_kernel"
        allowed = budget(case, name, views, truth, other)
        comparison.add(f"{name} from exact inputs", value, truth, allowed, kernel)


def dense_gradients(
    case: Case, views: tuple[Tensor, Tensor], dtype: torch.dtype
) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
    """Return (loss, lse) and the gradients of the weighted sum of the losses, in a dtype."""
    z0, z1 = (z.detach().to(dtype).requires_grad_() for z in views)
    t = torch.tensor(case.held, dtype=dtype, device=z0.device, requires_grad=True)
    loss = nt_xent_loss(
        z0,
        z1,
        t,
        reduction="none",
        normalize=case.normalize,
        eps=case.eps,
        backend="reference",
    )
    grads = torch.autograd.grad(loss @ row_weights(len(loss), dtype, loss.device), (z0, z1, t))
    rows = torch.cat([z0, z1]).detach()
    if case.normalize:
        rows = torch.nn.functional.normalize(rows, dim=1, eps=case.eps)
    return (loss.detach(), dense_sums(rows, case.held)[0]), list(grads)


def row_weights(rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return weights [2N] of the losses, different for every row."""
    return torch.linspace(0.5, 1.5, rows, dtype=dtype, device=device) / rows
