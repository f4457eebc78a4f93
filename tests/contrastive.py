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

from simclr_ext.backends.reference import Denominator, compute_dtype, contrastive
from simclr_ext.testing import ROUNDINGS, error_budget, error_norm
from tests.accuracy import weights_of

ALL = (True, True, True)


@dataclass(frozen=True)
class Case:
    """Inputs of the operators.

    Args:
        x: [R, D].
        y: [C, D] or None.
        temperature: T.
        shifts: Shifts of the positives.
        label: int32, one for each row of z, or None.
        ignored: int32, one for each row of z, or None.
        denominator: Which pairs are terms of the lse.
        of_lse: Whether the lse is part of the objective.
        normalize: Whether s is the cosine similarity.
        eps: Smallest norm in the normalization.
        one_sided: Whether the columns' losses have no weight in the objective.
        needs_grad: Whether x, y and the temperature need a gradient.
    """

    x: Tensor
    y: Tensor | None
    temperature: float = 0.5
    shifts: tuple[int, ...] = ()
    label: Tensor | None = None
    ignored: Tensor | None = None
    denominator: Denominator = "all"
    of_lse: bool = False
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

    def lse_weights(self) -> Tensor:
        """Return the weight of each lse in the objective, float64."""
        return -0.7 * self.weights().flip(0) if self.of_lse else torch.zeros(len(self.rows))

    def pairing(self, owned: tuple[int, ...] = ()) -> tuple[object, ...]:
        """Return the operators' arguments from shifts to owned."""
        return (list(self.shifts), self.label, self.ignored, self.denominator, list(owned))


def operators(backend: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the forward and the backward operator of a backend."""
    ours = torch.ops.simclr_ext
    if backend == "tiled":
        return ours.contrastive_tiled_forward, ours.contrastive_tiled_backward
    return ours.contrastive_forward, ours.contrastive_backward


def forward(case: Case, backend: str, owned: tuple[int, ...] = ()) -> tuple[Tensor, ...]:
    """Return loss, lse, z and inv_norm of an operator."""
    options = (case.held_temperature, case.normalize, case.eps)
    results: tuple[Tensor, ...] = operators(backend)[0](
        case.x, case.y, *options, *case.pairing(owned)
    )
    return results


def backward_args(
    case: Case, saved: tuple[Tensor, ...], owned: tuple[int, ...] = ()
) -> tuple[object, ...]:
    """Return the arguments of the backward operator, given the forward operator's results."""
    loss, lse, z, inv_norm = saved
    sizes = (case.x.shape[1], len(case.x))
    options = (*sizes, case.held_temperature, case.eps, *case.pairing(owned), list(case.needs_grad))
    grad_lse = case.lse_weights().to(lse.dtype) if case.of_lse else None
    return (case.weights().to(loss.dtype), grad_lse, loss, lse, z, inv_norm, *options)


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
        shifts=case.shifts, label=case.label, ignored=case.ignored, denominator=case.denominator,
    )  # fmt: skip
    inputs = {"grad_x": x, "grad_y": y, "grad_temperature": t}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    objective = loss @ case.weights().to(loss.dtype)
    if case.of_lse:
        objective = objective + lse @ case.lse_weights().to(lse.dtype)
    grads = torch.autograd.grad(objective, list(inputs.values()))
    return {"loss": loss.detach(), "lse": lse.detach(), **dict(zip(inputs, grads, strict=True))}


def compare(found: dict[str, Tensor], case: Case, weights: torch.dtype | None = None) -> None:
    """Fail if one of these exceeds its error budget.

    Args:
        found: Result of :func:`ours`.
        case: Inputs of the operators.
        weights: Dtype to which the weights of the gradients' sums are rounded, if not theirs.
    """
    eager, truth = by_reference(case), by_reference(case, torch.float64)
    for name in found:
        assert found[name].shape == truth[name].shape, name
        value, exact = finite(found[name].double(), truth[name])
        eager_value, _ = finite(eager[name].double(), truth[name])
        rows_grad = name in ("grad_x", "grad_y")
        rounding = torch.finfo(found[name if rows_grad else "loss"].dtype).eps
        if weights is not None and name not in ("loss", "lse"):
            rounding = max(rounding, torch.finfo(weights).eps)
        # lse is of the order of 1/T and saved in double; its rounding affects all weights.
        extra = 1 / case.temperature if case.x.dtype == torch.float64 else 0.0
        budget = error_budget(
            name,
            exact,
            eager_value,
            case.rows,
            case.temperature,
            rounding=rounding,
            roundings=ROUNDINGS + extra,
            normalize=case.normalize,
            eps=case.eps,
        )
        error, eager_error = error_norm(value, exact), error_norm(eager_value, exact)
        assert error <= budget, f"{name}: error {error:.2e}, eager {eager_error:.2e}, {budget=:.2e}"


def finite(value: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
    """Return both without the infinities, which are those of rows without terms and must agree."""
    infinite = exact.isinf()
    assert torch.equal(value[infinite], exact[infinite])
    return value[~infinite], exact[~infinite]


def check(case: Case, backend: str, weights: torch.dtype | None = None) -> None:
    """Fail if a backend's results for this case exceed their error budget."""
    compare(ours(case, backend), case, weights or weights_of(case.x.dtype, backend))


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
