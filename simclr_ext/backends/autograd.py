"""How the operators are called and differentiated: what the functions of both families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from simclr_ext._torch_compat import are_transforms_active, is_forward_mode_active


def is_recorded(*inputs: object) -> bool:
    """Return whether the Function is needed for gradients with respect to some inputs.

    Raises:
        NotImplementedError: If one of them is dual, that is, in forward mode. Dynamo does not trace
            a Function that says so itself.
    """
    if torch.compiler.is_compiling():
        return True
    if is_forward_mode_active() and any(map(_is_dual, inputs)):
        raise NotImplementedError(
            "The loss has no forward mode (torch.func.jvp, jacfwd, dual tensors): pass "
            "backend='reference'."
        )
    return torch.is_grad_enabled() or is_forward_mode_active()  # an inner level may be dual


def _is_dual(x: object) -> bool:
    if not isinstance(x, Tensor):
        return False
    return forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def is_plain_eager() -> bool:
    """Return whether torch's C++ autograd sees what runs: no compilation, torch.func, forward mode.

    These transform Functions of Python alone.
    """
    return not (
        torch.compiler.is_compiling() or are_transforms_active() or is_forward_mode_active()
    )


class OncePerSample(torch.autograd.Function):
    """A Function that vmap calls once for each sample of the batch."""

    @classmethod
    def vmap(
        cls, info: Any, in_dims: tuple[Any, ...], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Return the stacked results of all samples, and their dimension."""

        def sample(index: int) -> list[Any]:
            return [
                arg.select(dim, index) if isinstance(arg, Tensor) and dim is not None else arg
                for arg, dim in zip(args, in_dims, strict=True)
            ]

        samples = [cls.apply(*sample(index)) for index in range(info.batch_size)]
        outputs = tuple(torch.stack(values) for values in zip(*samples, strict=True))
        return outputs, (0,) * len(outputs)


def operator_name(family: str, way: str, backend: str) -> str:
    """Return an operator's name: of a family, "nt_xent" etc., "forward" or "backward"."""
    return f"{family}_tiled_{way}" if backend == "tiled" else f"{family}_{way}"


def call_operator(name: str, *args: Any) -> Any:
    """Call an operator of this package by its name."""
    return getattr(torch.ops.simclr_ext, name).default(*args)


def gradients_once(
    compute: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Any], *args: Any
) -> tuple[Tensor, ...]:
    """Return the gradients that a function computes, whose own derivatives are refused.

    Args:
        compute: What a backward pass calls, such as an operator.
        inputs: Tensors from which the gradients' own graph leads to all that they depend on.
        args: What the function gets.
    """
    if torch.is_grad_enabled():  # the gradients' graph is recorded (create_graph)
        results: tuple[Tensor, ...] = _GradientsOnce.apply(compute, len(inputs), *inputs, *args)
        return results
    return compute(*args)


class _GradientsOnce(OncePerSample):
    @staticmethod
    def forward(
        compute: Callable[..., tuple[Tensor, ...]], inputs: int, *args: Any
    ) -> tuple[Tensor, ...]:
        return compute(*args[inputs:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass  # there is no backward pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        raise NotImplementedError(
            "The loss is differentiable once: its gradient has no derivative. For second "
            "derivatives pass backend='reference'."
        )
