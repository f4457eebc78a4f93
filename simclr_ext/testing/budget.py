"""The error budget of a loss and its gradients against float64.

    budget = 2 |eager - exact| + 8 u size + least sqrt(elements)

|.| is the Euclidean norm, eager the dense computation by PyTorch in the precision of the inputs, or
in float32 if they are less precise, and u the relative error of one rounding. `size` is the norm of
the terms that are summed: the sum itself may be smaller by cancellation.
tests/cuda_host/precision.h has the same formula in C++: change both.
"""

from __future__ import annotations

import math

from torch import Tensor

# Eight, because tensor cores truncate sums, and truncation errors all have the same sign: at
# D = 256 they use half of the budget of 3xTF32, an eighth of bfloat16's.
ROUNDINGS = 8.0
_OF_ROWS = ("loss", "lse", "positive")  # a value per row: not gradients


def error_budget(
    name: str,
    exact: Tensor,
    eager: Tensor,
    rows: Tensor,
    temperature: float,
    *,
    rounding: float,
    logit_rounding: float = 0.0,
    least: float = 0.0,
    roundings: float = ROUNDINGS,
    normalize: bool = True,
    eps: float = 1e-12,
    single_pair: bool = False,
) -> float:
    """Return the largest allowed norm of an error.

    Args:
        name: "loss", "lse" or "positive", [R] each; "grad_temperature"; any other name is that of a
            gradient of rows, [R, D].
        exact: The quantity in float64.
        eager: The quantity from the dense computation.
        rows: All inputs, [R, D].
        temperature: T.
        rounding: u, relative, of the quantity; for a gradient also that of its weights.
        logit_rounding: Relative rounding of similarities, if they are less precise than in `eager`;
            it affects gradients only. For a loss, `rounding` covers it.
        least: Smallest positive number of the quantity's dtype.
        roundings: Number of roundings.
        normalize: The loss's argument.
        eps: The loss's argument: shorter rows are divided by it.
        single_pair: Whether this is NT-Xent of one pair, which has no negatives: its loss and
            gradients are 0, and nothing is rounded.

    Returns:
        The budget. A NaN error does not compare as below it.

    Example:
        >>> import torch
        >>> z, t = torch.eye(4, dtype=torch.float64), 0.5
        >>> loss = torch.ones(4, dtype=torch.float64)
        >>> error_budget("loss", loss, loss, z, t, rounding=2**-24) == 8 * 2**-24 * (2 + 2 / t)
        True
    """
    if single_pair and name not in ("lse", "positive"):
        return 0.0
    if name not in _OF_ROWS:
        # An error of a similarity is 1 / T times as large in its logit, hence in a weight.
        rounding += logit_rounding * _largest_similarity(rows, normalize) / temperature
    size = natural_size(name, exact, rows, temperature, normalize=normalize, eps=eps)
    smallest = least * math.sqrt(exact.numel())
    return 2 * error_norm(eager, exact) + roundings * rounding * size + smallest


def error_norm(value: Tensor, exact: Tensor) -> float:
    """Return the Euclidean norm of a quantity's error.

    Args:
        value: The quantity, of any dtype.
        exact: The quantity in float64, of the same shape.
    """
    return float((value.double() - exact).norm())


def natural_size(
    name: str,
    exact: Tensor,
    rows: Tensor,
    temperature: float,
    *,
    normalize: bool = True,
    eps: float = 1e-12,
) -> float:
    """Return the norm of the terms that a quantity sums; arguments as in `error_budget`."""
    square = _largest_similarity(rows, normalize)
    if name in _OF_ROWS:
        return float(exact.norm()) + math.sqrt(len(rows)) * square / temperature
    if name == "grad_temperature":
        return square / temperature**2
    norms = _norms(rows)
    # The gradient of z is that of z / max(|z|, eps), divided by that norm.
    length = 1 / float(norms.clamp_min(eps).min()) if normalize else float(norms.max())
    return float(exact.norm()) + length / temperature / math.sqrt(len(rows))


def _largest_similarity(rows: Tensor, normalize: bool) -> float:
    return 1.0 if normalize else float(_norms(rows).max()) ** 2


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = rows.detach().double().norm(dim=1)
    return norms
