"""The input checks shared by the public function and the operators written in Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
DENOMINATORS = ("all", "negatives", "positives")
_SMALLEST_EPS = torch.finfo(torch.float32).tiny  # its reciprocal is still finite in float32
_EPS_ALLOWED = f"at least {_SMALLEST_EPS:.1e} and finite"


def check_views(z0: Tensor, z1: Tensor, names: tuple[str, str] = ("z0", "z1")) -> None:
    """Raise TypeError or ValueError unless both are [N, D], floating (DTYPES), on one device."""
    first, second = names
    check_matrix(first, z0, "N")
    _check_floating(second, z1)
    if z1.shape != z0.shape:
        raise ValueError(
            f"{second} must have the shape of {first}, {tuple(z0.shape)}, got {tuple(z1.shape)}"
        )
    _check_device(second, z1, first, z0)


def check_columns(name: str, y: Tensor, other_name: str, x: Tensor) -> None:
    """Raise TypeError or ValueError unless y is [K, D], floating, for rows x [N, D]."""
    check_matrix(name, y, "K")
    if y.shape[1] != x.shape[1]:
        raise ValueError(
            f"{name} must be [K, {x.shape[1]}], as wide as {other_name}, got a tensor of shape "
            f"{tuple(y.shape)}"
        )
    _check_device(name, y, other_name, x)


def check_operator_views(z0: Tensor, z1: Tensor) -> None:
    """Raise TypeError or ValueError unless they are as the operators take them: of one dtype."""
    check_views(z0, z1)
    _check_same_dtype("z1", z1, "z0", z0)


def second_view_missing(z0: Tensor) -> TypeError:
    """Return the error of a call with one tensor, which says how to split it into two views."""
    if isinstance(z0, Tensor) and z0.ndim == 3 and z0.shape[1] > 2:
        return TypeError(
            "the loss pairs two views of each image, [N, D] each, got one tensor [N, views, D] = "
            f"{tuple(z0.shape)}; pass two of them, such as z[:, 0], z[:, 1]"
        )
    return TypeError(
        "z1 is missing: pass two views, [N, D] each. Of one tensor z [2N, D] these are "
        "*z.chunk(2) if the rows are stacked (all first views, then all second), and "
        "z[0::2], z[1::2] if they are interleaved; of z [N, 2, D], *z.unbind(1)"
    )


def check_rows(x: Tensor, y: Tensor | None) -> None:
    """Raise TypeError or ValueError unless x is [R, D], and y is None or [C, D] and matches x."""
    check_matrix("x", x, "R")
    if y is None:
        return
    check_matrix("y", y, "C")
    if y.shape[1] != x.shape[1]:
        raise ValueError(
            f"y must be [C, {x.shape[1]}] with C >= 1, got a tensor of shape {tuple(y.shape)}"
        )
    _check_same_dtype("y", y, "x", x)
    _check_device("y", y, "x", x)


def check_matrix(name: str, z: Tensor, symbol: str) -> None:
    """Raise TypeError or ValueError unless z is a floating matrix that is not empty."""
    _check_floating(name, z)
    if z.ndim != 2 or z.shape[0] < 1 or z.shape[1] < 1:
        raise ValueError(
            f"{name} must be [{symbol}, D] with {symbol} >= 1 and D >= 1, got a tensor of shape "
            f"{tuple(z.shape)}"
        )


def _check_floating(name: str, z: Tensor) -> None:
    if not isinstance(z, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(z).__name__}")
    check_dense(name, z)
    _check_dtype(name, z)


def check_dense(name: str, values: Tensor) -> None:
    """Raise TypeError if a tensor is sparse, nested or of another layout."""
    if values.layout is not torch.strided or values.is_nested:
        layout = "nested" if values.is_nested else values.layout
        raise TypeError(f"{name} must be a dense tensor, got layout {layout}")


def check_data(**tensors: Tensor | None) -> None:
    """Raise ValueError if a storage is smaller than its tensor: FSDP gives it back between uses.

    torch's own functions read such tensors. Not for code that is compiled: there are no storages.
    """
    for name, values in tensors.items():
        if values is None or values.numel() == 0:
            continue
        spans = zip(values.shape, values.stride(), strict=True)
        end = 1 + values.storage_offset() + sum((size - 1) * stride for size, stride in spans)
        found = values.untyped_storage().nbytes()
        if end * values.element_size() > found:
            raise ValueError(
                f"{name} must have data, got shape {list(values.shape)} and a storage of {found} "
                "bytes"
            )


def _check_same_dtype(name: str, z: Tensor, other_name: str, other: Tensor) -> None:
    if z.dtype != other.dtype:
        raise TypeError(f"{name} must have the dtype of {other_name}, {other.dtype}, got {z.dtype}")


def _check_device(name: str, z: Tensor, other_name: str, other: Tensor) -> None:
    if z.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}, {other.device}, got {z.device}"
        )


def as_number(value: Any) -> float:
    """Return a number or a 0-d array of NumPy as a number of Python, and all else as it is."""
    # Dynamo does not look for an attribute of a number that may change between calls.
    is_numpy = not isinstance(value, (float, int)) and getattr(value, "ndim", None) == 0
    number: float = value.item() if is_numpy else value
    return number


def as_temperature(temperature: float | Tensor) -> float | Tensor:
    """Return a positive number of Python, or a floating 0-d tensor; see :func:`as_scalar`.

    The value of a tensor is not checked: reading it from another device would synchronize.
    """
    scalar = as_scalar("temperature", temperature)
    if not isinstance(scalar, Tensor):
        check_positive("temperature", scalar)
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
    _check_dtype(name, scalar)
    return scalar.squeeze(0) if scalar.ndim else scalar


def check_temperature_value(temperature: Tensor) -> float:
    """Return the value of a 0-d tensor; raise ValueError unless it is positive and finite."""
    value = temperature.item()
    check_positive("temperature", value)
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
    place = device if reads_device and torch.compiler.is_compiling() else torch.device("cpu")
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
    _check_number("eps", eps, _SMALLEST_EPS, _EPS_ALLOWED)


def check_operands(
    rows: int,
    columns: int | None,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: str,
    owned: Sequence[int],
    device: torch.device,
) -> None:
    """Raise TypeError or ValueError unless these define the pairs and the owned rows.

    Args:
        rows: R.
        columns: C; None if the columns are the rows.
        shifts: Shifts of the positives.
        label: Labels of the rows and columns.
        ignored: Numbers of the rows and columns that are left out of each other's sums if equal.
        denominator: Which pairs are terms of the sums.
        owned: () or, if the columns are the rows, a range of these.
        device: Device of the rows.
    """
    _check_shifts(rows, columns, shifts)
    if label is not None and list(shifts):
        raise ValueError(f"labels need shifts = [], got {list(shifts)}")
    if denominator not in DENOMINATORS:
        raise ValueError(f"denominator must be one of {DENOMINATORS}, got {denominator!r}")
    for name, numbers in (("label", label), ("ignored", ignored)):
        if numbers is not None:
            _check_row_numbers(name, numbers, rows + (columns or 0), device)
    _check_owned(owned, rows, columns)


def _check_shifts(rows: int, columns: int | None, shifts: Sequence[int]) -> None:
    shifts = list(shifts)
    if len(shifts) > 2:
        raise ValueError(f"shifts must be at most 2, got {shifts}")
    opposite = len(shifts) == 2 and shifts[0] == -shifts[1] and 0 < shifts[0] < rows
    if columns is None and shifts and not opposite:
        raise ValueError(
            f"shifts must be [] or [k, -k] with 0 < k < {rows} where the rows are the columns, "
            f"too, got {shifts}"
        )
    if len(set(shifts)) != len(shifts):
        raise ValueError(f"shifts must differ, got {shifts}")


def _check_row_numbers(name: str, numbers: Tensor, size: int, device: torch.device) -> None:
    check_dense(name, numbers)
    if numbers.dtype != torch.int32:
        raise TypeError(f"{name} must be int32, got {numbers.dtype}")
    if numbers.ndim != 1 or numbers.shape[0] != size:
        raise ValueError(f"{name} must be [rows of z] = [{size}], got shape {list(numbers.shape)}")
    if numbers.device != device:
        raise ValueError(f"{name} must be on {device}, got {numbers.device}")


def _check_owned(owned: Sequence[int], rows: int, columns: int | None) -> None:
    owned = list(owned)
    if not owned:
        return
    if columns is not None:
        raise ValueError(f"owned must be [] where y is given, got {owned}")
    if len(owned) != 2 or not 0 <= owned[0] < owned[1] <= rows:
        raise ValueError(
            f"owned must be [] or [begin, end] with 0 <= begin < end <= {rows}, got {owned}"
        )


def check_saved(
    grad_loss: Tensor, loss: Tensor, lse: Tensor, z: Tensor, inv_norm: Tensor, dim: int
) -> None:
    """Raise TypeError or ValueError unless the forward pass of NT-Xent may have returned these."""
    check_dense("z", z)
    if z.ndim != 2 or z.shape[0] < 2 or z.shape[0] % 2 or z.shape[1] < 1:
        raise ValueError(f"z must be [2N, D] with N >= 1 and D >= 1, got shape {list(z.shape)}")
    _check_saved_rows("2N", grad_loss, loss, lse, z, inv_norm, dim)


def check_contrastive_saved(
    grad_loss: Tensor, loss: Tensor, lse: Tensor, z: Tensor, inv_norm: Tensor, dim: int, rows: int
) -> None:
    """Raise TypeError or ValueError unless the forward pass may have returned these."""
    check_dense("z", z)
    if z.ndim != 2 or z.shape[0] < 1 or z.shape[1] < 1:
        raise ValueError(
            f"z must be [R + C, D] or [R, D] with R >= 1 and D >= 1, got shape {list(z.shape)}"
        )
    size = z.shape[0]
    if not 1 <= rows <= size:
        raise ValueError(f"rows must be 1 to {size}, the rows of z, got {rows}")
    symbol = "R" if rows == size else "R + C"
    _check_saved_rows(symbol, grad_loss, loss, lse, z, inv_norm, dim)


def _check_saved_rows(
    symbol: str,
    grad_loss: Tensor,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    dim: int,
) -> None:
    if not 1 <= dim <= z.shape[1]:
        raise ValueError(f"dim must be 1 to {z.shape[1]}, the columns of z, got {dim}")
    size = z.shape[0]
    for name, values in (("grad_loss", grad_loss), ("loss", loss), ("lse", lse)):
        check_saved_row(name, values, z, symbol)
    check_dense("inv_norm", inv_norm)
    if inv_norm.ndim != 1 or inv_norm.shape[0] not in (0, size):
        raise ValueError(
            f"inv_norm must be [{symbol}] = [{size}] or [0], got shape {list(inv_norm.shape)}"
        )
    _check_number_of_row("inv_norm", inv_norm, z)
    if inv_norm.dtype != loss.dtype:
        raise TypeError(f"inv_norm must have the dtype of loss, {loss.dtype}, got {inv_norm.dtype}")


def check_sigmoid_saved(grad_loss: Tensor, z: Tensor, inv_norm: Tensor, dim: int) -> None:
    """Raise TypeError or ValueError unless the sigmoid loss's forward pass may have saved these."""
    for name, values in (("grad_loss", grad_loss), ("z", z), ("inv_norm", inv_norm)):
        check_dense(name, values)
        _check_dtype(name, values)
    if z.ndim != 2 or z.shape[0] < 2 or z.shape[1] < 1:
        raise ValueError(f"z must be [R + C, D] with R, C and D >= 1, got shape {list(z.shape)}")
    if not 1 <= dim <= z.shape[1]:
        raise ValueError(f"dim must be 1 to {z.shape[1]}, the columns of z, got {dim}")
    if grad_loss.ndim != 1 or not 1 <= grad_loss.shape[0] < z.shape[0]:
        raise ValueError(
            f"grad_loss must be [R] with 1 <= R < {z.shape[0]}, got shape {list(grad_loss.shape)}"
        )
    if inv_norm.ndim != 1 or inv_norm.shape[0] not in (0, z.shape[0]):
        raise ValueError(
            f"inv_norm must be [rows] = [{z.shape[0]}] or [0], got shape {list(inv_norm.shape)}"
        )
    for name, values in (("grad_loss", grad_loss), ("inv_norm", inv_norm)):
        _check_device(name, values, "z", z)


def check_saved_row(name: str, values: Tensor, z: Tensor, symbol: str = "rows of z") -> None:
    """Raise TypeError or ValueError unless there is one number for each row of z."""
    check_dense(name, values)
    if values.shape != z.shape[:1]:
        raise ValueError(
            f"{name} must be [{symbol}] = [{z.shape[0]}], got shape {list(values.shape)}"
        )
    _check_number_of_row(name, values, z)


def _check_number_of_row(name: str, values: Tensor, z: Tensor) -> None:
    _check_dtype(name, values)
    if values.device != z.device:
        raise ValueError(f"{name} must be on the device of z, {z.device}, got {values.device}")


def _check_dtype(name: str, values: Tensor) -> None:
    if values.dtype not in DTYPES:
        raise TypeError(
            f"{name} must have a floating dtype, got {values.dtype}; allowed are float64, float32, "
            "bfloat16 and float16"
        )


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless a number is positive and finite."""
    _check_number(name, value, 0, "positive and finite")


def _check_number(name: str, value: float, least: float, allowed: str) -> None:
    # While code is compiled, a number that may change between calls has no value; the operator
    # checks it when it runs.
    if torch.compiler.is_compiling():
        return
    if not (math.isfinite(value) and value >= least and value > 0):
        raise ValueError(f"{name} must be {allowed}, got {value}")
