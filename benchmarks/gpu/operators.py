"""The operators without autograd: the only file that knows their schemas.

What the forward pass saves for the backward pass differs between devices. On the CPU z holds unit
rows. On CUDA it holds rows scaled by a power of two, row_i = x_i 2^e_i with the unit row
z_i = factor_i row_i and 1 <= factor_i < 2, padded with zeros to a multiple of 16 bytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.cases import Case
from simclr_ext.backends import ops

SCALED_ON = {"cuda"}  # types of devices where rows are scaled by a power of two
_UNIT_BYTES = 16


@dataclass(frozen=True)
class Saved:
    """What the forward pass returns.

    Attributes:
        loss: [2N].
        lse: [2N], float64 on CUDA and the CPU.
        z: [2N, D], or with padding [2N, stride].
        inv_norm: [2N] 1 / max(norm, eps); [0]: not normalized.
    """

    loss: Tensor
    lse: Tensor
    z: Tensor
    inv_norm: Tensor


def forward(
    z0: Tensor, z1: Tensor, temperature: float, normalize: bool = True, eps: float = 1e-12
) -> Saved:
    """Run the forward operator of the fused kernels."""
    given = {"z0": z0, "z1": z1, "temperature": _scalar(temperature)}
    return Saved(*_call("nt_xent_forward", given | {"normalize": normalize, "eps": eps}))


def backward(
    grad_loss: Tensor, saved: Saved, temperature: float, dim: int, eps: float = 1e-12
) -> tuple[Tensor, Tensor]:
    """Run the backward operator: gradients of the views' rows [2N, D] and of the temperature."""
    given = vars(saved) | {"grad_loss": grad_loss, "temperature": _scalar(temperature), "eps": eps}
    grad_z, grad_temperature = _call(
        "nt_xent_backward", given | {"dim": dim, "needs_grad": [True, True, True]}
    )
    return grad_z, grad_temperature


def _call(name: str, given: dict[str, Any]) -> tuple[Tensor, ...]:
    ops.register()
    operator = getattr(torch.ops.simclr_ext, name).default
    results: tuple[Tensor, ...] = operator(**{n: given[n] for n in _arguments(name)})
    return results


@functools.cache
def _arguments(name: str) -> list[str]:
    schema = getattr(torch.ops.simclr_ext, name).default._schema
    return [argument.name for argument in schema.arguments]


def _scalar(temperature: float) -> Tensor:
    return torch.tensor(temperature, dtype=torch.float64)  # on the CPU: no synchronization


def unit_rows(saved: Saved, dim: int) -> Tensor:
    """Return the unit rows [2N, D] that the forward pass multiplied, in float64."""
    rows = saved.z[:, :dim].double()
    return rows * factors(saved.inv_norm) if _are_scaled(saved.z) else rows


def _are_scaled(rows: Tensor) -> bool:
    """Return whether rows of this dtype and device are stored scaled; on the CPU only bfloat16."""
    return rows.device.type in SCALED_ON or rows.dtype == torch.bfloat16


def factors(inv_norm: Tensor) -> Tensor | float:
    """Return the factors from stored rows to unit rows, [2N, 1], or 1 without normalization."""
    if inv_norm.numel() == 0:
        return 1.0
    return (inv_norm.double() / _power_of_two(inv_norm))[:, None]


def padding(saved: Saved, dim: int) -> Tensor:
    """Return the padding of z, [2N, stride - D]."""
    return saved.z[:, dim:]


def saved_exactly(case: Case, views: tuple[Tensor, Tensor], loss: Tensor, lse: Tensor) -> Saved:
    """Return what a forward pass without errors saves for the backward pass.

    Args:
        case: What is computed.
        views: z0 and z1, [N, D].
        loss: [2N] in float64.
        lse: [2N] in float64.
    """
    x = torch.cat(views)
    wide = x.double()
    inv_norm = torch.empty(0, dtype=torch.float32, device=x.device)
    if case.normalize:
        norm = wide.norm(dim=1)
        inv_norm = (1 / norm.clamp_min(case.eps)).float()
    if not _are_scaled(x):
        z = (wide * inv_norm.double()[:, None] if case.normalize else wide).float()
        return Saved(loss.float(), lse, z, inv_norm)
    z = stored_rows(x, inv_norm, case.precision.mode)
    takes_padding = x.device.type in SCALED_ON and "dim" in _arguments("nt_xent_backward")
    return Saved(loss.float(), lse, z if takes_padding else z[:, : case.d], inv_norm)


def stored_rows(x: Tensor, inv_norm: Tensor, mode: str) -> Tensor:
    """Return rows [2N, stride] as the CUDA kernels store them.

    Args:
        x: The views' rows, [2N, D].
        inv_norm: As in `Saved`.
        mode: "tf32": rounded to TF32; or "ieee".
    """
    power = _power_of_two(inv_norm)[:, None] if inv_norm.numel() > 0 else 1.0
    rows = (x.double() * power).to(x.dtype)
    if mode == "tf32":  # to nearest, ties away from zero
        rows = ((rows.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
    unit = _UNIT_BYTES // x.element_size()
    z = x.new_zeros(len(x), (x.shape[1] + unit - 1) // unit * unit)
    z[:, : x.shape[1]] = rows
    return z


def _power_of_two(x: Tensor) -> Tensor:
    """Return the largest power of two that is at most x > 0, in float64."""
    exponent = torch.frexp(x.double()).exponent - 1
    return torch.ldexp(torch.ones_like(x, dtype=torch.float64), exponent.clamp_min(-126))
