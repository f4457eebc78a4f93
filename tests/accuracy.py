"""Measures the loss and its gradients against the float64 reference, by `error_budget`."""

from __future__ import annotations

import torch
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.backends.reference import compute_dtype
from simclr_ext.testing import error_budget, error_norm

NAMES = ("loss", "grad_z0", "grad_z1", "grad_temperature")


def loss_and_grads(
    views: tuple[Tensor, Tensor],
    temperature: float,
    *,
    backend: str,
    dtype: torch.dtype | None = None,
    **options: object,
) -> list[Tensor]:
    """Return the losses [2N], and the gradients of their weighted sum, in ``dtype``."""
    dtype = dtype or views[0].dtype
    z0, z1 = (z.detach().to(dtype).requires_grad_() for z in views)
    t = torch.tensor(temperature, dtype=compute_dtype(dtype), requires_grad=True)
    loss = nt_xent_loss(z0, z1, t, reduction="none", backend=backend, **options)
    # Weights that differ for every row.
    weights = torch.linspace(0.5, 1.5, len(loss), dtype=loss.dtype)
    return [loss.detach(), *torch.autograd.grad(loss @ weights / len(loss), (z0, z1, t))]


def weights_of(dtype: torch.dtype, backend: str) -> torch.dtype | None:
    """Return the dtype to which a backend rounds the weights of the gradients' sums, on the CPU."""
    return dtype if dtype == torch.bfloat16 and backend == "fused" else None


def check_accuracy(
    views: tuple[Tensor, Tensor],
    temperature: float,
    *,
    backend: str,
    weights: torch.dtype | None = None,
    **options: object,
) -> None:
    """Fail if the loss or a gradient of these views exceeds its error budget.

    ``weights`` is the dtype to which the weights of the gradients' sums are rounded, if it is not
    that of :func:`weights_of`.
    """
    ours = loss_and_grads(views, temperature, backend=backend, **options)
    weights = weights or weights_of(views[0].dtype, backend)
    check_results(ours, views, temperature, weights=weights, **options)


def check_results(
    ours: list[Tensor],
    views: tuple[Tensor, Tensor],
    temperature: float,
    *,
    weights: torch.dtype | None = None,
    **options: object,
) -> None:
    """Fail if what ``loss_and_grads`` may have returned for these views exceeds its budget."""
    eager = loss_and_grads(views, temperature, backend="reference", **options)
    # The temperature as rounded to the compute dtype, not its decimal value.
    held = torch.tensor(temperature, dtype=compute_dtype(views[0].dtype)).item()
    truth = loss_and_grads(views, held, backend="reference", dtype=torch.float64, **options)
    for name, value, other, exact in zip(NAMES, ours, eager, truth, strict=True):
        assert value.shape == exact.shape
        rounding = torch.finfo(value.dtype).eps
        if weights is not None and name != "loss":
            rounding = max(rounding, torch.finfo(weights).eps)
        budget = error_budget(
            name,
            exact,
            other,
            torch.cat(views),
            temperature,
            rounding=rounding,
            single_pair=len(views[0]) == 1,
            **options,
        )
        error, eager_error = error_norm(value, exact), error_norm(other, exact)
        assert error <= budget, f"{name}: error {error:.2e}, eager {eager_error:.2e}, {budget=:.2e}"
