"""Measures the loss and its gradients against the float64 reference, with an error budget.

The budget: our error is at most twice that of the reference run in our own precision, plus a few
roundings at the natural size of the quantity.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.reference import compute_dtype

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
    # Weights that tell every row from the others.
    weights = torch.linspace(0.5, 1.5, len(loss), dtype=loss.dtype)
    return [loss.detach(), *torch.autograd.grad(loss @ weights / len(loss), (z0, z1, t))]


def check_accuracy(
    views: tuple[Tensor, Tensor],
    temperature: float,
    *,
    backend: str,
    weights: torch.dtype | None = None,
    **options: object,
) -> None:
    """Fail if the loss or a gradient of these views exceeds its error budget.

    ``weights`` is what the weights of the gradients' sums are rounded to, if not to their dtype.
    """
    ours = loss_and_grads(views, temperature, backend=backend, **options)
    eager = loss_and_grads(views, temperature, backend="reference", **options)
    # The temperature that the compute dtype holds, not its decimal.
    held = torch.tensor(temperature, dtype=compute_dtype(views[0].dtype)).item()
    truth = loss_and_grads(views, held, backend="reference", dtype=torch.float64, **options)
    for name, value, other, exact in zip(NAMES, ours, eager, truth, strict=True):
        assert value.shape == exact.shape
        error = (value.double() - exact).norm().item()
        eager_error = (other.double() - exact).norm().item()
        rounding = torch.finfo(value.dtype).eps
        if weights is not None and name != "loss":
            rounding = max(rounding, torch.finfo(weights).eps)
        budget = 2 * eager_error + 8 * rounding * natural_size(
            name, exact, torch.cat(views), temperature, **options
        )
        assert error <= budget, f"{name}: error {error:.2e}, eager {eager_error:.2e}, {budget=:.2e}"


def natural_size(
    name: str,
    exact: Tensor,
    rows: Tensor,
    temperature: float,
    *,
    normalize: bool = True,
    eps: float = 1e-12,
) -> float:
    """Return the size of the terms whose sum ``exact`` is: it may be smaller by cancellation.

    Args:
        name: "loss", "grad_temperature" or another gradient, of rows.
        exact: The value.
        rows: Inputs, all of them.
        temperature: T.
        normalize: As the loss takes it.
        eps: As the loss takes it.
    """
    norms = rows.double().norm(dim=1)
    square = 1.0 if normalize else norms.max().item() ** 2
    if name == "loss":
        return exact.norm().item() + math.sqrt(len(rows)) * square / temperature
    if name == "grad_temperature":
        return square / temperature**2
    scale = 1 / norms.clamp_min(eps).min().item() if normalize else norms.max().item()
    return exact.norm().item() + scale / temperature / math.sqrt(len(rows))
