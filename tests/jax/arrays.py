"""The loss of JAX called with views of torch, which the other tests have."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from simclr_ext.backends.reference import compute_dtype
from simclr_ext.jax import nt_xent_loss


def as_array(z: Tensor) -> jax.Array:
    """Return a tensor as an array of the same dtype, which NumPy may not have."""
    name = str(z.dtype).removeprefix("torch.")
    wide = z.detach().to(compute_dtype(z.dtype))
    return jnp.asarray(wide.numpy()).astype(name)


def as_tensor(array: jax.Array) -> Tensor:
    """Return an array as a tensor of the same dtype."""
    name = array.dtype.name
    wide = np.array(array.astype(jnp.promote_types(array.dtype, jnp.float32)))
    return torch.from_numpy(wide).to(getattr(torch, name))


def loss_and_grads(
    views: tuple[Tensor, Tensor], temperature: float, **options: Any
) -> list[Tensor]:
    """Return what the function of this name in tests/accuracy.py does, computed by JAX, jitted."""
    with jax.enable_x64(views[0].dtype == torch.float64):
        z0, z1 = map(as_array, views)
        dtype = jnp.promote_types(z0.dtype, jnp.float32)
        weights = as_array(torch.linspace(0.5, 1.5, 2 * len(z0), dtype=getattr(torch, dtype.name)))

        def weighted(z0: jax.Array, z1: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
            rows = nt_xent_loss(z0, z1, t, reduction="none", **options)
            return rows @ weights / len(rows), rows

        passes = jax.jit(jax.value_and_grad(weighted, argnums=(0, 1, 2), has_aux=True))
        (_, rows), grads = passes(z0, z1, jnp.asarray(temperature, dtype))
        return [as_tensor(rows), *map(as_tensor, grads)]


@functools.cache
def views(n: int, d: int = 8) -> tuple[jax.Array, jax.Array]:
    """Return two views of float32."""
    z0, z1 = np.random.default_rng(n).standard_normal((2, n, d), dtype=np.float32)
    return jnp.asarray(z0), jnp.asarray(z1)
