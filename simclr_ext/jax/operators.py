"""The operators as functions of JAX, and how it differentiates them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simclr_ext.backends.reference import Reduction
from simclr_ext.jax import handlers

Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


# A call that is not inside a jitted function is compiled, too: otherwise each operation is a call.
@functools.partial(jax.jit, static_argnames=("reduction", "normalize", "eps"))
def nt_xent(
    z0: jax.Array,
    z1: jax.Array,
    temperature: jax.Array,
    *,
    reduction: Reduction,
    normalize: bool,
    eps: float,
) -> jax.Array:
    """Return the reduced losses of the 2N rows; arguments as in the public function, checked."""
    dtype = jnp.promote_types(jnp.result_type(z0, z1), jnp.float32)  # halves in float32
    views = (z0.astype(dtype), z1.astype(dtype))
    rows = _row_losses(*views, temperature.reshape(()).astype(dtype), normalize, eps)
    if reduction == "none":
        return rows
    return rows.mean() if reduction == "mean" else rows.sum()


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _row_losses(
    z0: jax.Array, z1: jax.Array, temperature: jax.Array, normalize: bool, eps: float
) -> jax.Array:
    """Return the losses [2N] of float32 or float64 views [N, D], all of one dtype."""
    loss, *_ = _forward(z0, z1, temperature, normalize, eps)
    return loss


def _forward(
    z0: jax.Array, z1: jax.Array, temperature: jax.Array, normalize: bool, eps: float
) -> Saved:
    """Return what ``nt_xent_forward`` of csrc/simclr_ext.h does, lse as pairs of uint32."""
    handlers.register()
    rows, dim, dtype = 2 * z0.shape[0], z0.shape[1], z0.dtype
    results = (
        jax.ShapeDtypeStruct((rows,), dtype),  # loss
        jax.ShapeDtypeStruct((rows, 2), jnp.uint32),  # lse
        jax.ShapeDtypeStruct((rows, dim), dtype),  # z
        jax.ShapeDtypeStruct((rows if normalize else 0,), dtype),  # inv_norm
    )
    call = jax.ffi.ffi_call(handlers.FORWARD, results, vmap_method="sequential")
    saved: Saved = call(z0, z1, temperature, normalize=normalize, eps=np.float64(eps))
    return saved


def _row_losses_fwd(
    z0: jax.Array, z1: jax.Array, temperature: jax.Array, normalize: bool, eps: float
) -> tuple[jax.Array, tuple[Saved, jax.Array]]:
    saved = _forward(z0, z1, temperature, normalize, eps)
    return saved[0], (saved, temperature)


def _row_losses_bwd(
    normalize: bool, eps: float, residuals: tuple[Saved, jax.Array], grad_loss: jax.Array
) -> Any:
    saved, temperature = residuals
    z = saved[2]
    view = jax.ShapeDtypeStruct((z.shape[0] // 2, z.shape[1]), z.dtype)
    results = (view, view, jax.ShapeDtypeStruct((), z.dtype))
    call = jax.ffi.ffi_call(handlers.BACKWARD, results, vmap_method="sequential")
    return call(grad_loss, *saved, temperature, eps=np.float64(eps))


_row_losses.defvjp(_row_losses_fwd, _row_losses_bwd)
