"""The operators of the sigmoid loss as a differentiable function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from simclr_ext._checks.scalars import operator_scalar
from simclr_ext.backends import reference
from simclr_ext.backends.autograd import (
    OncePerSample,
    call_operator,
    gradients_once,
    is_recorded,
    operator_name,
)
from simclr_ext.backends.ops import register
from simclr_ext.backends.tiled.sigmoid import scalar_values


def sigmoid(
    x: Tensor,
    y: Tensor,
    scale: float | Tensor,
    bias: float | Tensor,
    *,
    normalize: bool,
    eps: float,
    backend: str,
    shifts: Sequence[int] = (0,),
) -> Tensor:
    """Return what :func:`simclr_ext.backends.reference.sigmoid` does, on any backend.

    Takes O((R + C) D) memory with ``backend`` "fused" or "tiled". Differentiable once, with respect
    to ``x``, ``y``, and to scale and bias if they are tensors. On CUDA "fused" reads these where
    they are: the host does not wait for them, and a scale that is not positive makes the loss NaN.

    Raises:
        BackendUnavailableError: If ``backend`` is "fused" and its operators are unavailable.
        ValueError: If scale or bias is on a third device, or not valid as far as the host knows.
    """
    values = (
        operator_scalar("scale", scale, x.device, backend),
        operator_scalar("bias", bias, x.device, backend),
    )
    if backend == "reference":
        if not torch.compiler.is_compiling():  # reading the values would break the graph
            scalar_values(*values)
        return reference.sigmoid(x, y, scale, bias, normalize=normalize, eps=eps, shifts=shifts)
    if backend == "fused":
        register()
    args = (*values, normalize, eps, list(shifts))
    if not is_recorded(x, y, scale, bias):
        results = call_operator(operator_name("sigmoid", "forward", backend), x, y, *args)
    else:
        results = _Sigmoid.apply(x, y, scale, bias, *args, backend)
    loss: Tensor = results[0]
    return loss


class _Sigmoid(OncePerSample):
    @staticmethod
    def forward(
        x: Tensor,
        y: Tensor,
        scale: float | Tensor,
        bias: float | Tensor,
        scale_value: Tensor,  # as the operators take it
        bias_value: Tensor,
        normalize: bool,
        eps: float,
        shifts: list[int],
        backend: str,
    ) -> tuple[Tensor, ...]:
        operator = operator_name("sigmoid", "forward", backend)
        results: tuple[Tensor, ...] = call_operator(
            operator, x, y, scale_value, bias_value, normalize, eps, shifts
        )
        return results

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, y, scale, bias, scale_value, bias_value, _, ctx.eps, ctx.shifts, ctx.backend = inputs
        _, *saved = output
        ctx.mark_non_differentiable(*saved)
        ctx.set_materialize_grads(False)  # no zero gradients for these outputs
        learned = (s if isinstance(s, Tensor) else None for s in (scale, bias))
        ctx.save_for_backward(*saved, scale_value, bias_value, *learned, x, y)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_loss is None:
            return (None,) * 10
        bias_grad, z, inv_norm, scale_value, bias_value, scale, bias, x, y = ctx.saved_tensors
        needs_x, needs_y, needs_scale, needs_bias = ctx.needs_input_grad[:4]
        values = (scale_value, bias_value, ctx.eps, ctx.shifts)
        args = (grad_loss, z, inv_norm, x.shape[1], *values, [needs_x, needs_y, needs_scale])
        operator = operator_name("sigmoid", "backward", ctx.backend)
        grad_z, grad_scale, grad_bias = gradients_once(
            _gradients, (x, y, scale, bias), operator, bias_grad, *args
        )
        rows = x.shape[0] if needs_x or needs_scale else 0
        return (
            grad_z[:rows].to(x.dtype) if needs_x else None,
            grad_z[rows:].to(y.dtype) if needs_y else None,
            grad_scale.to(scale) if needs_scale else None,
            grad_bias.to(bias) if needs_bias else None,
            *(None,) * 6,
        )


def _gradients(
    operator: str, bias_grad: Tensor, grad_loss: Tensor, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of z and of the scale by the operator, and that of the bias."""
    grad_z, grad_scale = call_operator(operator, grad_loss, *args)
    return grad_z, grad_scale, grad_loss.to(bias_grad.dtype) @ bias_grad
