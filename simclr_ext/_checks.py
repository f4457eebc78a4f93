"""The input checks that the public function and the operators written in Python share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SMALLEST_EPS = torch.finfo(torch.float32).tiny  # its reciprocal is still finite in float32


def check_views(z0: Tensor, z1: Tensor) -> None:
    """Raise TypeError or ValueError unless both are [N, D], floating and alike."""
    for name, z in (("z0", z0), ("z1", z1)):
        if not isinstance(z, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(z).__name__}")
        if not z.dtype.is_floating_point:
            raise TypeError(f"{name} must have a floating dtype, got {z.dtype}")
    if z0.ndim != 2 or z0.shape[0] < 1 or z0.shape[1] < 1:
        raise ValueError(
            f"z0 must be [N, D] with N >= 1 and D >= 1, got a tensor of shape {tuple(z0.shape)}"
        )
    if z1.shape != z0.shape:
        raise ValueError(f"z1 must have the shape of z0, {tuple(z0.shape)}, got {tuple(z1.shape)}")
    if z1.dtype != z0.dtype:
        raise TypeError(f"z1 must have the dtype of z0, {z0.dtype}, got {z1.dtype}")
    if z1.device != z0.device:
        raise ValueError(f"z1 must be on the device of z0, {z0.device}, got {z1.device}")


def check_temperature(temperature: float | Tensor) -> None:
    """Raise TypeError or ValueError unless it is a positive float or 0-d floating tensor."""
    if isinstance(temperature, Tensor):
        if temperature.ndim != 0:
            raise ValueError(
                "temperature must be a float or a 0-d tensor, got a tensor of shape "
                f"{tuple(temperature.shape)}"
            )
        if not temperature.dtype.is_floating_point:
            raise TypeError(f"temperature must have a floating dtype, got {temperature.dtype}")
    elif isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise TypeError(
            f"temperature must be a float or a 0-d tensor, got {type(temperature).__name__}"
        )
    # While compiling, a tensor has no value; the operator checks it when it runs.
    if not (isinstance(temperature, Tensor) and torch.compiler.is_compiling()):
        value = temperature.item() if isinstance(temperature, Tensor) else temperature
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"temperature must be positive and finite, got {value}")


def check_eps(eps: float) -> None:
    """Raise ValueError unless both ``eps`` and its reciprocal are finite in float32."""
    if not (math.isfinite(eps) and eps >= _SMALLEST_EPS):
        raise ValueError(f"eps must be at least {_SMALLEST_EPS:.1e} and finite, got {eps}")
