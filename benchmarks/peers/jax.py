"""Two losses in JAX, jitted, on the CPU: optax's own, and the dense one by optax's cross-entropy.

Views and gradients are shared with torch without a copy; the call through torch's autograd adds a
fraction of a millisecond. XLA has threads of its own, as many as processors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from peers.peer import Peer
from simclr_ext.bench.baselines import Loss


class _FromJax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z0: Tensor, z1: Tensor, temperature: float, with_gradients: Callable[..., Any]
    ) -> Tensor:
        value, gradients = _call(with_gradients, z0, z1, temperature)
        ctx.gradients = gradients
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first, second = (grad * gradient for gradient in ctx.gradients)
        return first, second, None, None


def _call(function: Callable[..., Any], z0: Tensor, z1: Tensor, temperature: float) -> Any:
    import jax

    arrays = [jax.dlpack.from_dlpack(z.detach()) for z in (z0, z1)]
    result = jax.block_until_ready(function(*arrays, temperature))
    return jax.tree.map(torch.from_dlpack, result)


def _in_torch(loss: Callable[..., Any]) -> Loss:
    import jax

    value = jax.jit(loss)
    with_gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def call(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        if not torch.is_grad_enabled():
            without: Tensor = _call(value, z0, z1, temperature)
            return without
        result: Tensor = _FromJax.apply(z0, z1, temperature, with_gradients)
        return result

    return call


def _load_optax() -> Loss:
    import jax.numpy as jnp
    import optax

    def loss(z0: Any, z1: Any, temperature: float) -> Any:
        pairs = jnp.tile(jnp.arange(len(z0)), 2)
        return optax.losses.ntxent(jnp.concatenate([z0, z1]), pairs, temperature)

    return _in_torch(loss)


def _load_dense() -> Loss:
    import jax.numpy as jnp
    import optax

    def loss(z0: Any, z1: Any, temperature: float) -> Any:
        z = jnp.concatenate([z0, z1])
        z = z / jnp.maximum(jnp.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        logits = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, z @ z.T / temperature)
        positives = jnp.roll(jnp.arange(len(z)), len(z0))
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, positives).mean()

    return _in_torch(loss)


OPTAX = Peer("optax", _load_optax, package="optax", devices=("cpu",), obeys_threads=False)
DENSE = Peer("jax", _load_dense, package="optax", devices=("cpu",), obeys_threads=False)
