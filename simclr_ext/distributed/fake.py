"""What the operators over ranks return, without data and messages, for torch.compile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simclr_ext._checks.tensors import check_rows
from simclr_ext.backends.fake import grad_of_scale, layout_of
from simclr_ext.backends.reference import compute_dtype
from simclr_ext.distributed.meeting import KEEPING
from simclr_ext.distributed.ranks import Ranks


def token() -> Tensor:
    """Return the token of an operator; see `operators.py`."""
    return torch.zeros((), dtype=torch.float64, device="cpu")


def _check_devices(device: torch.device | str, **tensors: Tensor | None) -> None:
    """Raise ValueError unless all are on the device.

    A single argument without data, on "meta", brings a call of the operators here, where results
    have none either: if they are on a device that has data, they would be random numbers.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != torch.device(device):
            raise ValueError(f"{name} must be on {device}, got {tensor.device}")


def agree(
    values: Tensor,
    rows: Sequence[int],
    names: str,
    facts: Sequence[float],
    least: int,
    group: str,
) -> tuple[Tensor, Tensor]:
    """Stand in for ``ranks_agree``."""
    _check_devices("cpu", values=values)
    ranks = Ranks.named(group).size
    return torch.empty(ranks, len(rows), dtype=torch.int64, device="cpu"), token()


def reduce(
    values: Tensor, operation: str, after: Tensor | None, group: str
) -> tuple[Tensor, Tensor]:
    """Stand in for ``ranks_reduce``."""
    _check_devices("cpu", after=after)
    return torch.empty_like(values, memory_format=torch.contiguous_format), token()


def numbers(
    ids: Tensor, sizes: Tensor, after: Tensor | None, group: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Stand in for ``ranks_numbers``."""
    _check_devices("cpu", sizes=sizes, after=after)
    number = torch.empty_like(ids, dtype=torch.int32)
    return number, torch.empty_like(ids, dtype=torch.int64), token()


def contrastive_forward(
    x: Tensor,
    y: Tensor | None,
    temperature: Tensor,
    sizes: Tensor,
    normalize: bool,
    eps: float,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: str,
    backend: str,
    exchange: str,
    after: Tensor | None,
    group: str,
) -> tuple[Tensor, ...]:
    """Stand in for ``ranks_contrastive_forward``."""
    _check_devices("cpu", temperature=temperature, sizes=sizes, after=after)
    _check_devices(x.device, y=y, label=label, ignored=ignored)
    check_rows(x, y)
    size = x.shape[0] if y is None else x.shape[0] + y.shape[0]
    loss, lse, z, inv_norm = layout_of(backend)(x, size, size, normalize)
    kept = _kept(z, inv_norm, exchange == KEEPING and label is None)
    return loss, lse, z, inv_norm, *kept, token()


def _kept(z: Tensor, inv_norm: Tensor, keeps: bool) -> tuple[Tensor, Tensor]:
    """Return as many rows of other ranks as only these know."""
    count = torch.library.get_ctx().new_dynamic_size() if keeps else 0
    return z.new_empty(count, z.shape[1]), inv_norm.new_empty(count if inv_norm.shape[0] else 0)


def contrastive_backward(
    grad_loss: Tensor,
    grad_lse: Tensor | None,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    visitors: Tensor,
    visitors_inv_norm: Tensor,
    dim: int,
    rows: int,
    temperature: Tensor,
    sizes: Tensor,
    eps: float,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: str,
    needs_temperature: bool,
    backend: str,
    exchange: str,
    after: Tensor | None,
    group: str,
) -> tuple[Tensor, ...]:
    """Stand in for ``ranks_contrastive_backward``."""
    _check_devices("cpu", temperature=temperature, sizes=sizes, after=after)
    _check_devices(z.device, grad_loss=grad_loss, grad_lse=grad_lse, loss=loss, lse=lse)
    _check_devices(z.device, inv_norm=inv_norm, visitors=visitors, label=label, ignored=ignored)
    _check_devices(z.device, visitors_inv_norm=visitors_inv_norm)
    grad_z = z.new_empty(z.shape[0], dim, dtype=compute_dtype(z.dtype))
    return grad_z, lse.new_empty(() if needs_temperature else 0), token()


def sigmoid_forward(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    sizes: Tensor,
    normalize: bool,
    eps: float,
    shifts: Sequence[int],
    backend: str,
    exchange: str,
    after: Tensor | None,
    group: str,
) -> tuple[Tensor, ...]:
    """Stand in for ``ranks_sigmoid_forward``."""
    _check_devices("cpu", scale=scale, bias=bias, sizes=sizes, after=after)
    _check_devices(x.device, y=y)
    check_rows(x, y)
    results = layout_of(backend)(x, x.shape[0], x.shape[0] + y.shape[0], normalize)
    kept = _kept(*results[2:], keeps=exchange == KEEPING)
    return *results, *kept, token()


def sigmoid_backward(
    grad_loss: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    visitors: Tensor,
    visitors_inv_norm: Tensor,
    dim: int,
    scale: Tensor,
    bias: Tensor,
    sizes: Tensor,
    eps: float,
    shifts: Sequence[int],
    needs_scale: bool,
    backend: str,
    exchange: str,
    after: Tensor | None,
    group: str,
) -> tuple[Tensor, ...]:
    """Stand in for ``ranks_sigmoid_backward``."""
    _check_devices("cpu", scale=scale, bias=bias, sizes=sizes, after=after)
    _check_devices(z.device, grad_loss=grad_loss, inv_norm=inv_norm, visitors=visitors)
    _check_devices(z.device, visitors_inv_norm=visitors_inv_norm)
    grad_z = z.new_empty(z.shape[0], dim, dtype=compute_dtype(z.dtype))
    return grad_z, grad_of_scale(z, needs_scale), token()
