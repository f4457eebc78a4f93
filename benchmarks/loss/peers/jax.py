"""Losses in JAX, jitted, on the CPU: this package's, optax's, and the dense one with optax's parts.

They are checked through torch's autograd, and timed without it, on JAX arrays: going through torch
takes 0.2 ms. XLA has its own threads, as many as processors.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor

from benchmarks.loss.peers.peer import Peer
from simclr_ext.bench.machine import Pass


class _FromJax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z0: Tensor, z1: Tensor, temperature: float, loss: _JaxLoss) -> Tensor:
        value: Tensor
        value, gradients = _in_torch(loss.natively((z0, z1), temperature, "forward + backward")())
        ctx.gradients = gradients
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first, second = (grad * gradient for gradient in ctx.gradients)
        return first, second, None, None


class _JaxLoss:
    """A loss in JAX, for torch views."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        import jax

        self.functions: dict[Pass, Callable[..., Any]] = {
            "forward": jax.jit(loss),
            "forward + backward": jax.jit(jax.value_and_grad(loss, argnums=(0, 1))),
        }

    def __call__(self, z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        if not torch.is_grad_enabled():
            value: Tensor = _in_torch(self.natively((z0, z1), temperature, "forward")())
            return value
        result: Tensor = _FromJax.apply(z0, z1, temperature, self)
        return result

    def natively(
        self, views: tuple[Tensor, Tensor], temperature: float, what: Pass
    ) -> Callable[[], Any]:
        """Return a call from JAX arrays, which share the views' memory, to JAX arrays."""
        import jax

        function = self.functions[what]
        doubles = views[0].dtype == torch.float64  # otherwise JAX rounds them to float32
        with _precision(doubles):
            arrays = [jax.dlpack.from_dlpack(z.detach()) for z in views]

        def call() -> Any:
            with _precision(doubles):
                return jax.block_until_ready(function(*arrays, temperature))

        return call


def _precision(doubles: bool) -> contextlib.AbstractContextManager[Any]:
    import jax

    context: contextlib.AbstractContextManager[Any] = (
        jax.enable_x64(True) if doubles else contextlib.nullcontext()
    )
    return context


def _in_torch(arrays: Any) -> Any:
    import jax

    return jax.tree.map(torch.utils.dlpack.from_dlpack, arrays)


def _natively(
    loss: Any, inputs: tuple[Tensor, Tensor], temperature: float, what: Pass
) -> Callable[[], object]:
    return _JaxLoss.natively(loss, inputs, temperature, what)


def _load_ours() -> _JaxLoss:
    from simclr_ext.jax import nt_xent_loss
    from simclr_ext.jax.handlers import register

    register()  # here, where an error is a reason to skip it
    return _JaxLoss(nt_xent_loss)


def _load_optax() -> _JaxLoss:
    import jax.numpy as jnp
    import optax

    def loss(z0: Any, z1: Any, temperature: float) -> Any:
        pairs = jnp.tile(jnp.arange(len(z0)), 2)
        return optax.losses.ntxent(jnp.concatenate([z0, z1]), pairs, temperature)

    return _JaxLoss(loss)


def _load_dense() -> _JaxLoss:
    import jax.numpy as jnp
    import optax

    def loss(z0: Any, z1: Any, temperature: float) -> Any:
        z = jnp.concatenate([z0, z1])
        z = z / jnp.maximum(jnp.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        logits = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, z @ z.T / temperature)
        positives = jnp.roll(jnp.arange(len(z)), len(z0))
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, positives).mean()

    return _JaxLoss(loss)


_in_jax = functools.partial(
    Peer, package="optax", devices=("cpu",), in_torch=False, compiles=True, timed=_natively
)
OURS = _in_jax("simclr-ext in JAX", _load_ours, package="jax")
OPTAX, DENSE = _in_jax("optax", _load_optax), _in_jax("jax", _load_dense)
