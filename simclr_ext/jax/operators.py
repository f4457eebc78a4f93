"""The operators as functions of JAX, and how it differentiates them.

The mean and the sum are differentiated with one call of a handler, the losses of rows with two: the
gradients of a sum need not wait for what comes after it, and at small N a call is a good part of
the time. XLA sees no float64 unless JAX has it enabled: lse is pairs of uint32 to it.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simclr_ext.backends.reference import Reduction
from simclr_ext.jax import handlers

Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # loss, lse, z, inv_norm


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
    inputs = (z0.astype(dtype), z1.astype(dtype), temperature.reshape(()).astype(dtype))
    handlers.register()
    if reduction == "none":
        return _rows(*inputs, normalize, eps)
    return _reduced(*inputs, reduction, normalize, eps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _rows(
    z0: jax.Array, z1: jax.Array, temperature: jax.Array, normalize: bool, eps: float
) -> jax.Array:
    """Return the losses [2N] of float32 or float64 views [N, D], all of one dtype."""
    loss, *_ = _forward(z0, z1, temperature, normalize, eps)
    return loss


def _rows_fwd(
    z0: jax.Array, z1: jax.Array, temperature: jax.Array, normalize: bool, eps: float
) -> tuple[jax.Array, tuple[Saved, jax.Array]]:
    saved = _forward(z0, z1, temperature, normalize, eps)
    return saved[0], (saved, temperature)


def _rows_bwd(
    normalize: bool, eps: float, residuals: tuple[Saved, jax.Array], grad_loss: jax.Array
) -> Any:
    saved, temperature = residuals
    z = saved[2]
    view = jax.ShapeDtypeStruct((z.shape[0] // 2, z.shape[1]), z.dtype)
    results = (view, view, jax.ShapeDtypeStruct((), z.dtype))
    call = jax.ffi.ffi_call(handlers.BACKWARD, results, vmap_method="sequential")
    return call(grad_loss, *saved, temperature, eps=np.float64(eps))


_rows.defvjp(_rows_fwd, _rows_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _reduced(
    z0: jax.Array,
    z1: jax.Array,
    temperature: jax.Array,
    reduction: Reduction,
    normalize: bool,
    eps: float,
) -> jax.Array:
    """Return the mean or the sum of these losses."""
    return _reduce(_rows(z0, z1, temperature, normalize, eps), reduction)


def _reduced_fwd(
    z0: jax.Array,
    z1: jax.Array,
    temperature: jax.Array,
    reduction: Reduction,
    normalize: bool,
    eps: float,
) -> tuple[jax.Array, list[jax.Array]]:
    rows = 2 * z0.shape[0]
    results = [
        jax.ShapeDtypeStruct((rows,), z0.dtype)
    ]  # loss, and the gradients of its mean or sum
    results += [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (z0, z1, temperature)]
    call = jax.ffi.ffi_call(handlers.LOSS_AND_GRADIENTS, results, vmap_method="sequential")
    weight = np.float64(1 / rows if reduction == "mean" else 1)
    loss, *grads = call(
        z0, z1, temperature, normalize=normalize, eps=np.float64(eps), weight=weight
    )
    return _reduce(loss, reduction), grads


def _reduced_bwd(
    reduction: Reduction, normalize: bool, eps: float, grads: list[jax.Array], grad_loss: jax.Array
) -> tuple[jax.Array, ...]:
    return tuple(grad_loss * grad for grad in grads)


_reduced.defvjp(_reduced_fwd, _reduced_bwd)


def _reduce(rows: jax.Array, reduction: Reduction) -> jax.Array:
    return rows.mean() if reduction == "mean" else rows.sum()


def _forward(
    z0: jax.Array, z1: jax.Array, temperature: jax.Array, normalize: bool, eps: float
) -> Saved:
    rows, dim, dtype = 2 * z0.shape[0], z0.shape[1], z0.dtype
    results = (
        jax.ShapeDtypeStruct((rows,), dtype),
        jax.ShapeDtypeStruct((rows, 2), jnp.uint32),
        jax.ShapeDtypeStruct((rows, dim), dtype),
        jax.ShapeDtypeStruct((rows if normalize else 0,), dtype),
    )
    call = jax.ffi.ffi_call(handlers.FORWARD, results, vmap_method="sequential")
    saved: Saved = call(z0, z1, temperature, normalize=normalize, eps=np.float64(eps))
    return saved
