"""The NT-Xent loss for JAX on the CPU: XLA calls the kernels that the loss for PyTorch has.

This file can be imported without JAX; what needs it is imported when the loss is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simclr_ext._checks.scalars import as_number, check_eps, check_scale
from simclr_ext.backends.reference import REDUCTIONS, Reduction
from simclr_ext.options.extras import require

if TYPE_CHECKING:
    import jax

__all__ = ["nt_xent_loss"]

_DTYPES = ("float64", "float32", "bfloat16", "float16")
_TEMPERATURE = "temperature must be a number or an array of shape () or (1,)"


def nt_xent_loss(
    z0: jax.Array,
    z1: jax.Array,
    temperature: float | jax.Array = 0.5,
    *,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float = 1e-12,
) -> jax.Array:
    r"""Compute SimCLR's NT-Xent loss of two batches of views, in O(N D) memory.

    With z the 2N rows of ``z0`` and ``z1``, s their cosine similarities and T the temperature,

    .. math:: \ell_i = -\log \frac{\exp(s_{i,p(i)} / T)}{\sum_{j \ne i} \exp(s_{ij} / T)},
              \qquad p(i) = (i + N) \bmod 2N

    Works inside ``jax.jit`` and ``jax.lax.scan``, under ``jax.grad`` once, in reverse mode, and
    under ``jax.vmap``, one batch after the other. The result and the gradients are bitwise the same
    from run to run, for any number of threads.

    Args:
        z0: Embeddings of the first views, [N, D], N >= 1 and D >= 1; float64 (if JAX has it
            enabled) is computed in float64, float32, bfloat16 and float16 in float32.
        z1: Embeddings of the second views, of the shape of ``z0``; row i is the positive of row i
            of ``z0``. Views of two dtypes are promoted as JAX does.
        temperature: T > 0; a number, or an array of shape () or (1,), rounded to the dtype in which
            the loss is computed.
        reduction: ``"mean"`` or ``"sum"`` over the 2N rows, or ``"none"``: the losses of all rows,
            [2N], those of ``z0`` first.
        normalize: Whether to divide each row by its l2 norm first. If not, s are dot products.
        eps: Rows with a norm below this are divided by it instead; at least 1.2e-38.

    Returns:
        A scalar, or [2N] losses; float32, or float64 for float64 views.

    Raises:
        MissingExtraError: If JAX is not installed.
        TypeError: If an argument has the wrong type, or a view has the wrong dtype.
        ValueError: If a shape, eps or name is not as above, or a temperature that is a number.
        jax.errors.JaxRuntimeError: When the loss is computed, if the temperature is an array whose
            value is out of range.
        BackendUnavailableError: If the kernels or their handlers cannot be compiled.

    Example:
        >>> import jax
        >>> z = jax.numpy.eye(4)  # each row: log(e^2 + 6) - 2
        >>> loss, grads = jax.jit(jax.value_and_grad(nt_xent_loss, argnums=(0, 1)))(z, z)
        >>> round(float(loss), 4)
        0.5944

    Source: SimCLR (arXiv 2002.05709), section 2.1, equation 1.
    """
    require("jax", "jax", "simclr_ext.jax")
    import jax.numpy as jnp

    from simclr_ext.jax import operators

    _check_views(z0, z1)
    temperature = _checked_temperature(temperature)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    eps = as_number(eps)
    check_eps(eps)
    return operators.nt_xent(
        jnp.asarray(z0),
        jnp.asarray(z1),
        jnp.asarray(temperature),
        reduction=reduction,
        normalize=bool(normalize),
        eps=eps,
    )


def _check_views(z0: Any, z1: Any) -> None:
    """Raise TypeError or ValueError unless both are [N, D] and floating."""
    for name, z in (("z0", z0), ("z1", z1)):
        if not _is_array(z):
            raise TypeError(f"{name} must be an array of JAX or NumPy, got {type(z).__name__}")
        if z.dtype.name not in _DTYPES:
            raise TypeError(
                f"{name} must have a floating dtype, got {z.dtype}; allowed are "
                f"{', '.join(_DTYPES[:-1])} and {_DTYPES[-1]}"
            )
    if z0.ndim != 2 or 0 in z0.shape:
        raise ValueError(
            f"z0 must be [N, D] with N >= 1 and D >= 1, got an array of shape {z0.shape}"
        )
    if z1.shape != z0.shape:
        raise ValueError(f"z1 must have the shape of z0, {z0.shape}, got {z1.shape}")


def _checked_temperature(temperature: Any) -> Any:
    """Return a temperature that was checked, as an array or a number of Python.

    The value of an array is not: it may have none yet, and reading it would wait for it.
    """
    if not _is_array(temperature):
        number = as_number(temperature)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"{_TEMPERATURE}, got {type(number).__name__}")
        check_scale("temperature", number)
        return number
    if temperature.shape not in ((), (1,)):
        raise ValueError(f"{_TEMPERATURE}, got an array of shape {temperature.shape}")
    if temperature.dtype.kind in "bc":
        raise TypeError(f"temperature must be real, got {temperature.dtype}")
    return temperature


def _is_array(value: Any) -> bool:
    import jax
    import numpy as np

    return isinstance(value, (jax.Array, np.ndarray))
