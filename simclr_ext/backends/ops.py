"""The operators in Python: their registration and autograd.

``torch.ops.simclr_ext.nt_xent_forward`` and ``nt_xent_backward`` are compiled, and documented in
csrc/simclr_ext.h; so is ``nt_xent_value_and_grad``, both at once. ``nt_xent_tiled_forward`` and
``nt_xent_tiled_backward`` are their counterparts in :mod:`simclr_ext.backends.tiled`, with the same
schemas; so are those of the families ``contrastive``, for any rows and columns, and ``sigmoid``.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from simclr_ext._checks.scalars import operator_temperature
from simclr_ext._torch_compat import OPERATOR_TAGS
from simclr_ext.backends import fake, loader, tiled
from simclr_ext.backends.autograd import (
    OncePerSample,
    call_operator,
    gradients_once,
    is_plain_eager,
    is_recorded,
    operator_name,
)
from simclr_ext.backends.once import once
from simclr_ext.backends.reference import REDUCTIONS, Reduction, reduce_rows


def nt_xent(
    z0: Tensor,
    z1: Tensor,
    temperature: float | Tensor,
    *,
    reduction: Reduction,
    normalize: bool,
    eps: float,
    backend: str,
) -> Tensor:
    """Return the reduced losses of the 2N rows of :func:`simclr_ext.backends.reference.nt_xent`.

    Takes O(N D) memory: the 2N x 2N logits exist one tile at a time, on the CPU one per thread, or
    for small batches all of them, at most 2 MiB.
    Differentiable once, with respect to both views and to the temperature if it is a tensor. On
    CUDA "fused" reads it where it is: the host does not wait for it, and one that is not positive
    makes the losses NaN.

    Raises:
        BackendUnavailableError: If ``backend`` is "fused" and its operators are unavailable.
        ValueError: If the temperature is on a third device, or out of range as far as the host
            knows.
    """
    if backend == "fused":
        register()
    loss: Tensor
    # At small N, what this leaves out costs more than the kernels.
    in_cpp = backend == "fused" and is_plain_eager()
    options = (REDUCTIONS.index(reduction), normalize, eps)
    if in_cpp and not isinstance(temperature, Tensor):
        loss = torch.ops.simclr_ext.nt_xent.default(z0, z1, temperature, *options)
        return loss
    value = operator_temperature(temperature, z0.device, backend)
    if in_cpp:
        loss = torch.ops.simclr_ext.nt_xent.learned(z0, z1, temperature, value, *options)
        return loss
    if not is_recorded(z0, z1, temperature):
        operator = operator_name("nt_xent", "forward", backend)
        rows, *_ = call_operator(operator, z0, z1, value, normalize, eps)
        return reduce_rows(rows, reduction)
    loss, *_ = _NTXent.apply(z0, z1, temperature, value, reduction, normalize, eps, backend)
    return loss


# Dynamo runs it while it traces, instead of tracing into the loader.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def register() -> None:
    """Load the compiled operators and tell torch how to trace and differentiate them.

    Raises:
        BackendUnavailableError: If they can neither be loaded nor compiled.
    """
    _register_once()


@once
def _register_once() -> None:
    loader.load()
    torch.library.register_fake("simclr_ext::nt_xent_forward", fake.forward)
    torch.library.register_fake("simclr_ext::nt_xent_backward", fake.backward)
    torch.library.register_fake("simclr_ext::nt_xent_value_and_grad", fake.value_and_grad)
    torch.library.register_fake("simclr_ext::contrastive_forward", fake.contrastive_forward)
    torch.library.register_fake("simclr_ext::contrastive_backward", fake.contrastive_backward)
    torch.library.register_fake("simclr_ext::contrastive_stats", fake.contrastive_stats)
    torch.library.register_fake("simclr_ext::sigmoid_forward", fake.sigmoid_forward)
    torch.library.register_fake("simclr_ext::sigmoid_backward", fake.sigmoid_backward)


class _NTXent(OncePerSample):
    # The reduction is done here: at small N, its own autograd nodes would double the cost.
    @staticmethod
    def forward(
        z0: Tensor,
        z1: Tensor,
        temperature: float | Tensor,
        value: Tensor,  # of the temperature, as the operators take it
        reduction: Reduction,
        normalize: bool,
        eps: float,
        backend: str,
    ) -> tuple[Tensor, ...]:
        operator = operator_name("nt_xent", "forward", backend)
        rows, *saved = call_operator(operator, z0, z1, value, normalize, eps)
        return reduce_rows(rows, reduction), rows, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        z0, z1, temperature, value, ctx.reduction, _, ctx.eps, ctx.backend = inputs
        _, *saved = output
        ctx.mark_non_differentiable(*saved)
        ctx.set_materialize_grads(False)  # no zero gradients for these outputs
        learned = temperature if isinstance(temperature, Tensor) else None
        ctx.save_for_backward(*saved, value, learned, z0, z1)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_loss is None:
            return (None,) * 8
        rows, lse, z, inv_norm, value, temperature, z0, z1 = ctx.saved_tensors
        if ctx.reduction == "mean":
            grad_loss = grad_loss / len(rows)
        needs_z0, needs_z1, needs_temperature = needs_grad = list(ctx.needs_input_grad[:3])
        saved = (rows, lse, z, inv_norm, z0.shape[1], value, ctx.eps)
        args = (grad_loss.expand(len(rows)), *saved, needs_grad)
        operator = operator_name("nt_xent", "backward", ctx.backend)
        grad_z, grad_temperature = gradients_once(
            call_operator, (z0, z1, temperature), operator, *args
        )
        n = len(rows) // 2  # grad_z is [2N, D], or [N, D] if only one view needs it
        return (
            grad_z[:n].to(z0.dtype) if needs_z0 else None,
            grad_z[-n:].to(z1.dtype) if needs_z1 else None,
            grad_temperature.to(temperature) if needs_temperature else None,
            None,
            None,
            None,
            None,
            None,
        )


# Otherwise Function.apply computes this signature on every call, a third of its whole cost.
_NTXent.forward.__signature__ = inspect.signature(_NTXent.forward)  # type: ignore[attr-defined]


_NT_XENT_FORWARD = (
    "(Tensor z0, Tensor z1, Tensor temperature, bool normalize, float eps)"
    " -> (Tensor loss, Tensor lse, Tensor z, Tensor inv_norm)"
)
_NT_XENT_BACKWARD = (
    "(Tensor grad_loss, Tensor loss, Tensor lse, Tensor z, Tensor inv_norm, SymInt dim,"
    " Tensor temperature, float eps, bool[3] needs_grad)"
    " -> (Tensor grad_z, Tensor grad_temperature)"
)
_CONTRASTIVE_FORWARD = (
    "(Tensor x, Tensor? y, Tensor temperature, bool normalize, float eps, int[] shifts,"
    " Tensor? label, Tensor? ignored, str denominator, int[] owned)"
    " -> (Tensor loss, Tensor lse, Tensor z, Tensor inv_norm)"
)
_CONTRASTIVE_BACKWARD = (
    "(Tensor grad_loss, Tensor? grad_lse, Tensor loss, Tensor lse, Tensor z, Tensor inv_norm,"
    " SymInt dim, SymInt rows, Tensor temperature, float eps, int[] shifts, Tensor? label,"
    " Tensor? ignored, str denominator, int[] owned, bool[3] needs_grad)"
    " -> (Tensor grad_z, Tensor grad_temperature)"
)
_CONTRASTIVE_STATS = (
    "(Tensor x, Tensor? y, Tensor temperature, bool normalize, float eps, int[] shifts,"
    " Tensor? label, Tensor? ignored)"
    " -> (Tensor loss, Tensor lse, Tensor z, Tensor inv_norm, Tensor positive, Tensor hardest,"
    " Tensor hardest_index, Tensor mean_similarity, Tensor near)"
)
_SIGMOID_FORWARD = (
    "(Tensor x, Tensor y, Tensor scale, Tensor bias, bool normalize, float eps, int[] shifts)"
    " -> (Tensor loss, Tensor bias_grad, Tensor z, Tensor inv_norm)"
)
_SIGMOID_BACKWARD = (
    "(Tensor grad_loss, Tensor z, Tensor inv_norm, SymInt dim, Tensor scale, Tensor bias,"
    " float eps, int[] shifts, bool[3] needs_grad) -> (Tensor grad_z, Tensor grad_scale)"
)


def _register_tiled() -> None:
    for name, schema, function, fake_function in (
        ("nt_xent_tiled_forward", _NT_XENT_FORWARD, tiled.nt_xent_forward, fake.tiled_forward),
        ("nt_xent_tiled_backward", _NT_XENT_BACKWARD, tiled.nt_xent_backward, fake.backward),
        (
            "contrastive_tiled_forward",
            _CONTRASTIVE_FORWARD,
            tiled.contrastive_forward,
            fake.contrastive_tiled_forward,
        ),
        (
            "contrastive_tiled_backward",
            _CONTRASTIVE_BACKWARD,
            tiled.contrastive_backward,
            fake.contrastive_backward,
        ),
        (
            "contrastive_tiled_stats",
            _CONTRASTIVE_STATS,
            tiled.contrastive_stats,
            fake.contrastive_tiled_stats,
        ),
        (
            "sigmoid_tiled_forward",
            _SIGMOID_FORWARD,
            tiled.sigmoid_forward,
            fake.sigmoid_tiled_forward,
        ),
        (
            "sigmoid_tiled_backward",
            _SIGMOID_BACKWARD,
            tiled.sigmoid_backward,
            fake.sigmoid_tiled_backward,
        ),
    ):
        operator = f"simclr_ext::{name}"
        torch.library.define(operator, schema, tags=OPERATOR_TAGS)
        torch.library.impl(operator, "default", function)
        torch.library.register_fake(operator, fake_function)


_register_tiled()
