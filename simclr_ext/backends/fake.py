"""Fake kernels: what the operators return, without data, for torch.compile and torch.export.

``forward`` and ``contrastive_forward`` are those of the compiled operators, which have their own
layout of z on CUDA; the backward operators' results have the same layout on all backends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from simclr_ext._checks.pairs import check_operands
from simclr_ext._checks.saved import (
    check_contrastive_saved,
    check_saved,
    check_saved_row,
    check_sigmoid_saved,
)
from simclr_ext._checks.scalars import check_operator_scalar, check_operator_temperature
from simclr_ext._checks.tensors import check_operator_views, check_rows
from simclr_ext.backends.reference import compute_dtype
from simclr_ext.backends.tiled.problem import Problem
from simclr_ext.backends.tiled.rows import multiplies_halves, sum_dtype

Results = tuple[Tensor, Tensor, Tensor, Tensor]


# Returns the results of the forward pass, given an input, the number of losses, the number of rows
# of z, and whether they are normalized.
Layout = Callable[[Tensor, int, int, bool], Results]


def backward(
    grad_loss: Tensor,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    dim: int,
    temperature: Tensor,
    eps: float,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Stand in for ``nt_xent_backward`` and ``nt_xent_tiled_backward``."""
    check_saved(grad_loss, loss, lse, z, inv_norm, dim)
    check_operator_temperature(temperature, _place_of_scalars(_compiled, z.device))
    needs_z0, needs_z1, needs_temperature = needs_grad
    views = 2 if needs_temperature else int(needs_z0) + int(needs_z1)
    grad_z = z.new_empty(views * (z.shape[0] // 2), dim)
    return grad_z, lse.new_empty(() if needs_temperature else 0)


def value_and_grad(
    z0: Tensor,
    z1: Tensor,
    temperature: Tensor,
    normalize: bool,
    eps: float,
    grad_loss: float,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Stand in for ``nt_xent_value_and_grad``."""
    loss, lse, z, inv_norm = forward(z0, z1, temperature, normalize, eps)
    grad_z, grad_temperature = backward(
        loss, loss, lse, z, inv_norm, z0.shape[1], temperature, eps, needs_grad
    )
    return loss, grad_z.to(loss.dtype), grad_temperature


def contrastive_backward(
    grad_loss: Tensor,
    grad_lse: Tensor | None,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    dim: int,
    rows: int,
    temperature: Tensor,
    eps: float,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: str,
    owned: Sequence[int],
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Stand in for ``contrastive_backward`` and ``contrastive_tiled_backward``."""
    check_contrastive_saved(grad_loss, loss, lse, z, inv_norm, dim, rows)
    if grad_lse is not None:
        check_saved_row("grad_lse", grad_lse, z)
    check_operator_temperature(temperature, _place_of_scalars(_compiled, z.device))
    size = z.shape[0]
    columns = size - rows if size > rows else None
    check_operands(rows, columns, shifts, label, ignored, denominator, owned, z.device)
    wanted = Problem.of(size, rows, owned).wanted(needs_grad)
    grad_z = z.new_empty(wanted.stop - wanted.start, dim)
    return grad_z, lse.new_empty(() if needs_grad[2] else 0)


def _place_of_scalars(layout: Layout, device: torch.device) -> torch.device | None:
    """Return where an operator takes scalars, beside the CPU."""
    return device if layout is _compiled and device.type == "cuda" else None


def _compiled(x: Tensor, losses: int, size: int, normalize: bool) -> Results:
    if x.device.type != "cuda":
        loss, lse, z, inv_norm = _tiled(x, losses, size, normalize)
        return loss, lse, z.to(x.dtype) if x.dtype == torch.bfloat16 else z, inv_norm
    per_unit = 16 // x.element_size()  # rows are padded to multiples of 16 bytes
    return (
        x.new_empty(losses, dtype=torch.float32),
        x.new_empty(losses, dtype=torch.float64),
        x.new_empty(size, (x.shape[1] + per_unit - 1) // per_unit * per_unit),
        x.new_empty(size if normalize else 0, dtype=torch.float32),
    )


def _tiled(x: Tensor, losses: int, size: int, normalize: bool) -> Results:
    dtype = compute_dtype(x.dtype)
    return (
        x.new_empty(losses, dtype=dtype),
        x.new_empty(losses, dtype=sum_dtype(x.device)),
        x.new_empty(size, x.shape[1], dtype=x.dtype if multiplies_halves(x) else dtype),
        x.new_empty(size if normalize else 0, dtype=dtype),
    )


def _nt_xent(layout: Layout) -> Callable[..., Results]:
    def forward(
        z0: Tensor, z1: Tensor, temperature: Tensor, normalize: bool, eps: float
    ) -> Results:
        check_operator_views(z0, z1)
        check_operator_temperature(temperature, _place_of_scalars(layout, z0.device))
        rows = 2 * z0.shape[0]
        return layout(z0, rows, rows, normalize)

    return forward


def _contrastive(layout: Layout) -> Callable[..., Results]:
    def forward(
        x: Tensor,
        y: Tensor | None,
        temperature: Tensor,
        normalize: bool,
        eps: float,
        shifts: Sequence[int],
        label: Tensor | None,
        ignored: Tensor | None,
        denominator: str,
        owned: Sequence[int],
    ) -> Results:
        check_rows(x, y)
        check_operator_temperature(temperature, _place_of_scalars(layout, x.device))
        rows, columns = x.shape[0], None if y is None else y.shape[0]
        check_operands(rows, columns, shifts, label, ignored, denominator, owned, x.device)
        size = rows + (columns or 0)
        results = Problem.of(size, rows, owned).results
        return layout(x, results.stop - results.start, size, normalize)

    return forward


def _stats(layout: Layout) -> Callable[..., tuple[Tensor, ...]]:
    def forward(
        x: Tensor,
        y: Tensor | None,
        temperature: Tensor,
        normalize: bool,
        eps: float,
        shifts: Sequence[int],
        label: Tensor | None,
        ignored: Tensor | None,
    ) -> tuple[Tensor, ...]:
        pairing = (shifts, label, ignored, "all", ())
        results = _contrastive(layout)(x, y, temperature, normalize, eps, *pairing)
        loss, lse, *_ = results
        kinds = (loss, loss, lse, lse)
        positive, hardest, mean, near = (torch.empty_like(values) for values in kinds)
        return (
            *results,
            positive,
            hardest,
            loss.new_empty(loss.shape, dtype=torch.int64),
            mean,
            near,
        )

    return forward


def _check_sigmoid_scalars(
    scale: Tensor, bias: Tensor, layout: Layout, device: torch.device
) -> None:
    for name, scalar in (("scale", scale), ("bias", bias)):
        check_operator_scalar(name, scalar, _place_of_scalars(layout, device))


def _sigmoid(layout: Layout) -> Callable[..., Results]:
    def forward(
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        bias: Tensor,
        normalize: bool,
        eps: float,
        shifts: Sequence[int],
    ) -> Results:
        check_rows(x, y)
        check_operands(x.shape[0], y.shape[0], shifts, None, None, "all", (), x.device)
        _check_sigmoid_scalars(scale, bias, layout, x.device)
        return layout(x, x.shape[0], x.shape[0] + y.shape[0], normalize)

    return forward


def _sigmoid_grads(layout: Layout) -> Callable[..., tuple[Tensor, Tensor]]:
    def backward(
        grad_loss: Tensor,
        z: Tensor,
        inv_norm: Tensor,
        dim: int,
        scale: Tensor,
        bias: Tensor,
        eps: float,
        shifts: Sequence[int],
        needs_grad: Sequence[bool],
    ) -> tuple[Tensor, Tensor]:
        check_sigmoid_saved(grad_loss, z, inv_norm, dim)
        rows = grad_loss.shape[0]
        check_operands(rows, z.shape[0] - rows, shifts, None, None, "all", (), z.device)
        _check_sigmoid_scalars(scale, bias, layout, z.device)
        wanted = Problem.of(z.shape[0], rows).wanted(needs_grad)
        return z.new_empty(wanted.stop - wanted.start, dim), grad_of_scale(z, needs_grad[2])

    return backward


def grad_of_scale(z: Tensor, needs_grad: bool) -> Tensor:
    """Return the second result of the sigmoid loss's backward pass."""
    return z.new_empty(() if needs_grad else 0, dtype=sum_dtype(z.device))


def layout_of(backend: str) -> Layout:
    """Return the layout of the forward pass of "fused" or "tiled"."""
    return _tiled if backend == "tiled" else _compiled


# Those of the compiled operators, then of the tiled ones.
forward = _nt_xent(_compiled)
contrastive_forward = _contrastive(_compiled)
tiled_forward = _nt_xent(_tiled)
contrastive_tiled_forward = _contrastive(_tiled)
contrastive_stats = _stats(_compiled)
contrastive_tiled_stats = _stats(_tiled)
sigmoid_forward = _sigmoid(_compiled)
sigmoid_tiled_forward = _sigmoid(_tiled)
sigmoid_backward = _sigmoid_grads(_compiled)
sigmoid_tiled_backward = _sigmoid_grads(_tiled)
