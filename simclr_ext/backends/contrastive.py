"""The contrastive operators as one differentiable function, of which all losses are made.

For each row it returns the log-sum-exp over its terms, and the same minus the mean of its
positives' logits. Which pairs are positive, and which are terms, is what the losses differ in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from simclr_ext._checks.scalars import check_temperature_value, operator_temperature
from simclr_ext.backends import reference
from simclr_ext.backends.autograd import (
    OncePerSample,
    call_operator,
    gradients_once,
    is_recorded,
    operator_name,
)
from simclr_ext.backends.ops import register
from simclr_ext.backends.reference import Denominator


def contrastive(
    x: Tensor,
    y: Tensor | None,
    temperature: float | Tensor,
    *,
    normalize: bool,
    eps: float,
    backend: str,
    shifts: Sequence[int] = (),
    label: Tensor | None = None,
    ignored: Tensor | None = None,
    denominator: Denominator = "all",
    with_stats: bool = False,
) -> tuple[Tensor, ...]:
    r"""Return what :func:`simclr_ext.backends.reference.contrastive` does, on any backend.

    .. math:: \mathrm{lse}_i = \log \sum_{j \in d(i)} \exp(s_{ij} / T), \qquad
              \ell_i = \mathrm{lse}_i - \frac{1}{n_i T} \sum_{j \in p(i)} s_{ij}

    With ``with_stats``, for a ``denominator`` "all", five results more for each row: those of
    ``contrastive_stats`` in csrc/simclr_ext.h, without gradients.

    Takes O((R + C) D) memory with ``backend`` "fused" or "tiled". Differentiable once, with respect
    to ``x``, ``y`` and to the temperature if it is a tensor. On CUDA "fused" reads it where it is:
    the host does not wait for it, and one that is not positive makes the results NaN.

    Raises:
        BackendUnavailableError: If ``backend`` is "fused" and its operators are unavailable.
        ValueError: If the temperature is on a third device, or out of range as far as the host
            knows.
    """
    value = operator_temperature(temperature, x.device, backend)
    if backend == "reference":
        if not torch.compiler.is_compiling():  # reading the value would break the graph
            check_temperature_value(value)
        return reference.contrastive(
            x,
            y,
            temperature,
            normalize=normalize,
            eps=eps,
            shifts=shifts,
            label=label,
            ignored=ignored,
            denominator=denominator,
            with_stats=with_stats,
        )
    if backend == "fused":
        register()
    pairing: tuple[Any, ...] = (list(shifts), label, ignored, denominator, [])
    args = (value, normalize, eps, *pairing)
    if is_recorded(x, y, temperature):
        results = _Contrastive.apply(x, y, temperature, *args, backend, with_stats)
    else:
        results = _forward(x, y, *args, backend, with_stats)
    loss, lse, _, _, *stats = results
    return (loss, lse, *stats)


def _forward(x: Tensor, y: Tensor | None, *args: Any) -> tuple[Tensor, ...]:
    *options, denominator, owned, backend, with_stats = args
    if with_stats:
        operator = operator_name("contrastive", "stats", backend)
        results: tuple[Tensor, ...] = call_operator(operator, x, y, *options)
    else:
        operator = operator_name("contrastive", "forward", backend)
        results = call_operator(operator, x, y, *options, denominator, owned)
    return results


class _Contrastive(OncePerSample):
    @staticmethod
    def forward(
        x: Tensor,
        y: Tensor | None,
        temperature: float | Tensor,
        value: Tensor,  # of the temperature, as the operators take it
        normalize: bool,
        eps: float,
        shifts: list[int],
        label: Tensor | None,
        ignored: Tensor | None,
        denominator: str,
        owned: list[int],
        backend: str,
        with_stats: bool,
    ) -> tuple[Tensor, ...]:
        pairing = (shifts, label, ignored, denominator, owned)
        return _forward(x, y, value, normalize, eps, *pairing, backend, with_stats)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, y, temperature, value, _, ctx.eps, ctx.shifts, label, ignored = inputs[:9]
        ctx.denominator, ctx.owned, ctx.backend, _ = inputs[9:]
        loss, lse, z, inv_norm, *stats = output
        ctx.mark_non_differentiable(z, inv_norm, *stats)
        ctx.set_materialize_grads(False)  # no zero gradients for an unused lse
        learned = temperature if isinstance(temperature, Tensor) else None
        ctx.save_for_backward(loss, lse, z, inv_norm, value, learned, x, y, label, ignored)

    @staticmethod
    def backward(
        ctx: Any, grad_loss: Tensor | None, grad_lse: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        if grad_loss is None and grad_lse is None:
            return (None,) * 13
        *saved, value, temperature, x, y, label, ignored = ctx.saved_tensors
        if grad_loss is None:
            grad_loss = torch.zeros_like(saved[0])
        needs_x, needs_y, needs_temperature = needs_grad = list(ctx.needs_input_grad[:3])
        pairing = (ctx.shifts, label, ignored, ctx.denominator, ctx.owned)
        sizes = (x.shape[1], x.shape[0])
        args = (grad_loss, grad_lse, *saved, *sizes, value, ctx.eps, *pairing, needs_grad)
        operator = operator_name("contrastive", "backward", ctx.backend)
        grad_z, grad_temperature = gradients_once(
            call_operator, (x, y, temperature), operator, *args
        )
        rows = x.shape[0] if needs_x or needs_temperature else 0
        return (
            grad_z[:rows].to(x.dtype) if needs_x else None,
            grad_z[rows:].to(y.dtype) if needs_y else None,
            grad_temperature.to(temperature) if needs_temperature else None,
            *(None,) * 10,
        )
