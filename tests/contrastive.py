"""Runs the contrastive operators and their reference on one case, and compares the two.

The error budget is `simclr_ext.testing.error_budget`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from simclr_ext.backends.reference import compute_dtype, contrastive
from simclr_ext.testing import ROUNDINGS, error_budget, error_norm

ALL = (True, True, True)


@dataclass(frozen=True)
class Case:
    """Inputs of the operators.

    Args:
        x: [R, D].
        y: [C, D] or None.
        temperature: T.
        shifts: Shifts of the positives.
        x_label: [R] int32 or None.
        y_label: [C] int32 or None.
        normalize: Whether s is the cosine similarity.
        eps: Smallest norm in the normalization.
        one_sided: Whether the columns' losses have no weight in the objective.
        needs_grad: Whether x, y and the temperature need a gradient.
    """

    x: Tensor
    y: Tensor | None
    temperature: float = 0.5
    shifts: tuple[int, ...] = ()
    x_label: Tensor | None = None
    y_label: Tensor | None = None
    normalize: bool = True
    eps: float = 1e-12
    one_sided: bool = False
    needs_grad: tuple[bool, bool, bool] = ALL

    @property
    def rows(self) -> Tensor:
        """The rows and, if given, the columns."""
        return self.x if self.y is None else torch.cat([self.x, self.y])

    @property
    def held_temperature(self) -> Tensor:
        """The temperature as rounded to the compute dtype, not its decimal value."""
        return torch.tensor(self.temperature, dtype=compute_dtype(self.x.dtype)).double()

    def weights(self) -> Tensor:
        """Return the weight of each loss in the objective, all of them different, float64."""
        size = len(self.rows)
        weights = torch.linspace(0.5, 1.5, size, dtype=torch.float64) / size
        if self.one_sided:
            weights[len(self.x) :] = 0
        return weights


def operators(backend: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the forward and the backward operator of a backend."""
    ours = torch.ops.simclr_ext
    if backend == "tiled":
        return ours.contrastive_tiled_forward, ours.contrastive_tiled_backward
    return ours.contrastive_forward, ours.contrastive_backward


def forward(case: Case, backend: str, owned: tuple[int, ...] = ()) -> tuple[Tensor, ...]:
    """Return loss, lse, z and inv_norm of an operator."""
    pairing = (list(case.shifts), case.x_label, case.y_label, list(owned))
    options = (case.held_temperature, case.normalize, case.eps)
    results: tuple[Tensor, ...] = operators(backend)[0](case.x, case.y, *options, *pairing)
    return results


def backward_args(
    case: Case, saved: tuple[Tensor, ...], owned: tuple[int, ...] = ()
) -> tuple[object, ...]:
    """Return the arguments of the backward operator, given the forward operator's results."""
    loss, lse, z, inv_norm = saved
    sizes = (case.x.shape[1], len(case.x))
    pairing = (list(case.shifts), case.x_label, case.y_label, list(owned))
    options = (*sizes, case.held_temperature, case.eps, *pairing, list(case.needs_grad))
    return (case.weights().to(loss.dtype), loss, lse, z, inv_norm, *options)


def ours(case: Case, backend: str) -> dict[str, Tensor]:
    """Return loss, lse and the gradients that are needed, as the operators give them."""
    saved = forward(case, backend)
    grad_z, grad_temperature = operators(backend)[1](*backward_args(case, saved))
    needs_x, needs_y, needs_temperature = case.needs_grad
    found = {"loss": saved[0], "lse": saved[1]}
    first = len(case.x) if needs_x or needs_temperature else 0
    if first:
        found["grad_x"] = grad_z[:first].to(case.x.dtype)
    if case.y is not None and needs_y:
        found["grad_y"] = grad_z[first:].to(case.x.dtype)
    if needs_temperature:
        found["grad_temperature"] = grad_temperature
    assert len(grad_z) == sum(len(g) for n, g in found.items() if n in ("grad_x", "grad_y"))
    return found


def by_reference(case: Case, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return the same from the reference, in ``dtype``, and its gradients by autograd."""
    dtype = dtype or case.x.dtype
    x = case.x.to(dtype).requires_grad_()
    y = None if case.y is None else case.y.to(dtype).requires_grad_()
    t = case.held_temperature.to(compute_dtype(dtype)).requires_grad_()
    loss, lse = contrastive(
        x, y, t, normalize=case.normalize, eps=case.eps,
        shifts=case.shifts, x_label=case.x_label, y_label=case.y_label,
    )  # fmt: skip
    inputs = {"grad_x": x, "grad_y": y, "grad_temperature": t}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    grads = torch.autograd.grad(loss @ case.weights().to(loss.dtype), list(inputs.values()))
    return {"loss": loss.detach(), "lse": lse.detach(), **dict(zip(inputs, grads, strict=True))}


def compare(found: dict[str, Tensor], case: Case, weights: torch.dtype | None = None) -> None:
    """Fail if one of these exceeds its error budget.

    Args:
        found: Result of :func:`ours`.
        case: Inputs of the operators.
        weights: Dtype to which the weights of the gradients' sums are rounded, if not theirs.
    """
    eager, truth = by_reference(case), by_reference(case, torch.float64)
    for name, value in found.items():
        exact = truth[name]
        assert value.shape == exact.shape, name
        rows_grad = name in ("grad_x", "grad_y")
        rounding = torch.finfo(value.dtype if rows_grad else found["loss"].dtype).eps
        if weights is not None and name not in ("loss", "lse"):
            rounding = max(rounding, torch.finfo(weights).eps)
        # lse is of the order of 1/T and saved in double; its rounding affects all weights.
        extra = 1 / case.temperature if case.x.dtype == torch.float64 else 0.0
        budget = error_budget(
            name,
            exact,
            eager[name],
            case.rows,
            case.temperature,
            rounding=rounding,
            roundings=ROUNDINGS + extra,
            normalize=case.normalize,
            eps=case.eps,
        )
        error, eager_error = error_norm(value, exact), error_norm(eager[name], exact)
        assert error <= budget, f"{name}: error {error:.2e}, eager {eager_error:.2e}, {budget=:.2e}"


def check(case: Case, backend: str, weights: torch.dtype | None = None) -> None:
    """Fail if a backend's results for this case exceed their error budget."""
    compare(ours(case, backend), case, weights)


def owned_parts(case: Case, backend: str, edges: list[int]) -> dict[str, Tensor]:
    """Return the result of :func:`ours`, computed in parts, as by ranks that own some rows each."""
    owned = list(itertools.pairwise(edges))
    parts = [forward(case, backend, part) for part in owned]
    # The ranks gather the losses of all rows.
    loss, lse = (torch.cat(values) for values in list(zip(*parts, strict=True))[:2])
    grads = [
        operators(backend)[1](*backward_args(case, (loss, lse, *rest), part))
        for part, (_, _, *rest) in zip(owned, parts, strict=True)
    ]
    grad_x = torch.cat([grad for grad, _ in grads]).to(case.x.dtype)
    return {
        "loss": loss,
        "lse": lse,
        "grad_x": grad_x,
        "grad_temperature": torch.stack([grad for _, grad in grads]).sum(),
    }


def with_inputs(case: Case, change: Callable[[Tensor], Tensor]) -> Case:
    """Return a case whose rows and columns are changed."""
    return replace(case, x=change(case.x), y=None if case.y is None else change(case.y))
