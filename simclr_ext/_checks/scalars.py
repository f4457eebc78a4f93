"""Numbers: the temperature and other scalars, as the losses and as the operators take them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from simclr_ext._checks.tensors import check_dense, check_floating_dtype

_CPU = torch.device("cpu")
_SMALLEST = torch.finfo(torch.float32).tiny  # its reciprocal is still finite in float32
_LARGEST = 1 / _SMALLEST
_EPS_ALLOWED = f"at least {_SMALLEST:.1e} and finite"


def as_number(value: Any) -> float:
    """Return a number or a 0-d array of NumPy as a number of Python, and all else as it is."""
    # Dynamo does not look for an attribute of a number that may change between calls.
    is_numpy = not isinstance(value, (float, int)) and getattr(value, "ndim", None) == 0
    number: float = value.item() if is_numpy else value
    return number


def bool_of(name: str, value: Any) -> bool:
    """Return True or False; raise TypeError if it is anything else."""
    flag = value if isinstance(value, bool) else as_number(value)
    if not isinstance(flag, bool):
        raise TypeError(f"{name} must be True or False, got {type(flag).__name__}")
    return flag


def as_temperature(temperature: float | Tensor, name: str = "temperature") -> float | Tensor:
    """Return a number of Python in its range, or a floating 0-d tensor; see :func:`as_scalar`.

    The value of a tensor is not checked: reading it from another device would synchronize.
    """
    # Nearly all are this. At small N what is below takes a twentieth of the loss's time.
    is_number = not torch.compiler.is_compiling() and type(temperature) is float
    if is_number and _SMALLEST <= temperature <= _LARGEST:
        return temperature
    scalar = as_scalar(name, temperature)
    if not isinstance(scalar, Tensor):
        check_scale(name, scalar)
    return scalar


def as_scalar(name: str, scalar: float | Tensor) -> float | Tensor:
    """Return a number of Python, or a floating 0-d tensor; raise TypeError or ValueError if not."""
    if not isinstance(scalar, Tensor):
        number = as_number(scalar)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(
                f"{name} must be a float or a tensor of shape () or (1,), got "
                f"{type(number).__name__}"
            )
        return number
    if scalar.ndim > 1 or scalar.numel() != 1:
        raise ValueError(
            f"{name} must be a float or a tensor of shape () or (1,), got a tensor of shape "
            f"{tuple(scalar.shape)}"
        )
    check_floating_dtype(name, scalar)
    return scalar.squeeze(0) if scalar.ndim else scalar


def check_temperature_value(temperature: Tensor) -> float:
    """Return the value of a 0-d tensor; raise ValueError unless it is in the range of a scale."""
    value = temperature.item()
    check_scale("temperature", value)
    return value


def operator_temperature(
    temperature: float | Tensor, device: torch.device, backend: str | None = None
) -> Tensor:
    """Return a temperature as the operators take it; see :func:`operator_scalar`."""
    return operator_scalar("temperature", temperature, device, backend)


def operator_scalar(
    name: str, scalar: float | Tensor, device: torch.device, backend: str | None = None
) -> Tensor:
    """Return a scalar as the operators take it: 0-d, float64, on the CPU.

    For a tensor on another device, this is the only time that the host waits for that device. The
    kernels of "fused" for CUDA read a tensor where it is, so that the host never waits. In compiled
    code they have all scalars on the device: a CUDA graph would record those of the host as
    constants.

    Args:
        name: Of the scalar.
        scalar: A number, or a 0-d tensor.
        device: That of the rows.
        backend: The one whose operator takes it; None: one that takes it on the CPU.

    Raises:
        ValueError: If it is neither on the CPU nor on the ``device`` of the views.
    """
    reads_device = backend == "fused" and device.type == "cuda"
    place = device if reads_device and torch.compiler.is_compiling() else _CPU
    if not isinstance(scalar, Tensor):
        return torch.scalar_tensor(scalar, dtype=torch.float64, device=place)
    if scalar.device.type not in ("cpu", device.type):
        raise ValueError(
            f"{name} must be on the CPU or on the device of the rows, {device}, got {scalar.device}"
        )
    if scalar.device.type == "meta":  # has no value, and none is needed
        return torch.ones((), dtype=torch.float64, device="cpu")
    if reads_device and scalar.device.type != "cpu":
        place = scalar.device
    return scalar.detach().to(place, torch.float64)


def check_operator_temperature(temperature: Tensor, device: torch.device | None = None) -> None:
    """Raise TypeError or ValueError unless an operator takes it; see check_operator_scalar."""
    check_operator_scalar("temperature", temperature, device)


def check_operator_scalar(name: str, scalar: Tensor, device: torch.device | None = None) -> None:
    """Raise TypeError or ValueError unless it is 0-d, float64, on the CPU or on the ``device``."""
    check_dense(name, scalar)
    if scalar.ndim != 0:
        raise ValueError(f"{name} must be 0-d, got shape {list(scalar.shape)}")
    if scalar.dtype != torch.float64:
        raise TypeError(f"{name} must be float64, got {scalar.dtype}")
    if scalar.device.type != "cpu" and scalar.device != device:
        allowed = "the CPU" if device is None else f"the CPU or on {device}"
        raise ValueError(f"{name} must be on {allowed}, got {scalar.device}")


def check_max_scale(max_scale: float, temperature: float | Tensor) -> None:
    """Raise ValueError unless it is positive and finite, and the temperature is a tensor."""
    check_positive("max_scale", max_scale)
    if not isinstance(temperature, Tensor):
        raise ValueError(
            f"max_scale={max_scale} clamps a learned temperature: pass an nn.Parameter as the "
            f"temperature, got {temperature}"
        )


def check_eps(eps: float) -> None:
    """Raise ValueError unless both ``eps`` and its reciprocal are finite in float32."""
    _check_number("eps", eps, _SMALLEST, _EPS_ALLOWED)


def check_range(name: str, value: float, least: float, below: float = math.inf) -> None:
    """Raise TypeError or ValueError unless a number is at least the one and below the other."""
    if torch.compiler.is_compiling():
        return
    _check_is_number(name, value)
    if not least <= value < below:
        end = "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name} must be at least {least:g} and {end}, got {value}")


def check_scale(name: str, value: float) -> None:
    """Raise ValueError unless a number and its reciprocal are normal numbers of float32."""
    # While code is compiled, a number that may change between calls has no value; the operator
    # checks it when it runs.
    if torch.compiler.is_compiling():
        return
    _check_is_number(name, value)
    if not _SMALLEST <= value <= _LARGEST:
        check_positive(name, value)
        raise ValueError(f"{name} must be from {_SMALLEST:.5e} to {_LARGEST:.5e}, got {value}")


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless a number is positive and finite."""
    _check_number(name, value, 0, "positive and finite")


def _check_is_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def _check_number(name: str, value: float, least: float, allowed: str) -> None:
    if torch.compiler.is_compiling():  # as in check_scale
        return
    _check_is_number(name, value)
    if not (math.isfinite(value) and value >= least and value > 0):
        raise ValueError(f"{name} must be {allowed}, got {value}")
