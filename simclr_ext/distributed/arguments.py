"""Checks what the operators over ranks are called with, before the ranks meet.

An operator that fails on one rank alone leaves the others waiting; but what is wrong on all ranks,
such as a name or the sizes, is an error of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simclr_ext._checks.pairs import EXCHANGES, check_operands
from simclr_ext._checks.scalars import check_operator_temperature, check_temperature_value
from simclr_ext._checks.tensors import (
    check_data,
    check_dense,
    check_same_device,
    check_same_dtype,
)
from simclr_ext.distributed.meeting import KEEPING
from simclr_ext.distributed.ranks import Ranks

_BACKENDS = ("fused", "tiled")
_OPERATIONS = ("sum", "max", "min")


def check_sizes(ranks: Ranks, sizes: Tensor, own: Sequence[int]) -> None:
    """Raise TypeError or ValueError unless these are numbers of rows and columns of all ranks.

    Args:
        ranks: The processes.
        sizes: [G, 2] int64 on the CPU.
        own: This rank's numbers of rows and, if it knows it, of columns.
    """
    check_dense("sizes", sizes)
    check_data(sizes=sizes)
    if sizes.dtype != torch.int64:
        raise TypeError(f"sizes must be int64, got {sizes.dtype}")
    if sizes.device.type != "cpu":
        raise ValueError(f"sizes must be on the CPU, got {sizes.device}")
    if sizes.shape != (ranks.size, 2):
        raise ValueError(f"sizes must be [G, 2] = [{ranks.size}, 2], got shape {list(sizes.shape)}")
    if int(sizes.min()) < 1:
        raise ValueError(f"sizes must be at least 1, got {sizes.tolist()}")
    found = sizes[ranks.rank, : len(own)].tolist()
    if found != list(own):
        raise ValueError(
            f"sizes must be {list(own)} at the place of this rank, {ranks.rank}, got {found}"
        )


def check_values(values: Tensor, names: Sequence[str], facts: Sequence[float]) -> None:
    """Raise TypeError or ValueError unless these are the values of the first names.

    Args:
        values: [k] float64 on the CPU.
        names: Of k values, and then of the other facts.
        facts: The others.
    """
    check_dense("values", values)
    check_data(values=values)
    if values.dtype != torch.float64:
        raise TypeError(f"values must be float64, got {values.dtype}")
    count = len(names) - len(facts)
    if values.shape != (count,) or values.device.type != "cpu":
        raise ValueError(
            f"values must be [{count}] on the CPU, one for each name without a fact, got shape "
            f"{list(values.shape)} on {values.device}"
        )


def check_names(backend: str, exchange: str) -> None:
    """Raise ValueError if there is no such backend, or no such exchange."""
    check_name("backend", backend, _BACKENDS)
    check_name("exchange", exchange, (*EXCHANGES, KEEPING))


def check_operation(operation: str) -> None:
    """Raise ValueError if ranks cannot be reduced by it."""
    check_name("operation", operation, _OPERATIONS)


def check_name(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError if a value is not one of the allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {tuple(allowed)}, got {value!r}")


def check_pairing(
    rows: int,
    columns: int | None,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: str,
    device: torch.device,
) -> None:
    """Raise TypeError or ValueError unless these define the pairs of this rank's rows.

    Args:
        rows: R.
        columns: C; None if the columns are the rows.
        shifts: Of the positives in the own block.
        label: Instead, if the columns are the rows.
        ignored: Numbers of the rows and columns.
        denominator: Which pairs are terms; only with labels the positives.
        device: Device of the rows.
    """
    if label is not None and columns is not None:
        raise ValueError("labels need columns that are the rows, got other columns")
    if label is None and denominator == "positives":
        raise ValueError("denominator 'positives' needs labels, got none")
    check_operands(rows, columns, shifts, label, ignored, denominator, (), device)
    check_data(label=label, ignored=ignored)


def check_temperature(temperature: Tensor) -> None:
    """Raise TypeError or ValueError unless it is a positive 0-d float64 tensor on the CPU."""
    check_operator_temperature(temperature)
    check_data(temperature=temperature)
    check_temperature_value(temperature)


def check_visitors(kept: bool, visitors: Tensor, norms: Tensor, z: Tensor) -> None:
    """Raise TypeError or ValueError unless these may be rows of z of other ranks, and their norms.

    How many are kept, their exchange knows.

    Args:
        kept: Whether there are any.
        visitors: The rows.
        norms: Their 1 / max(norm, eps), or [0].
        z: The own rows.
    """
    for name, values, shape in (
        ("visitors", visitors, z.shape[1:]),
        ("visitors_inv_norm", norms, z.shape[:0]),
    ):
        check_dense(name, values)
        if values.ndim == 0 or values.shape[1:] != shape or (len(values) and not kept):
            count = "K" if kept else 0
            sizes = ", ".join(map(str, [count, *shape]))
            raise ValueError(f"{name} must be [{sizes}], got shape {list(values.shape)}")
        check_same_device(name, values, "z", z)
    check_same_dtype("visitors", visitors, "z", z)
    check_data(visitors=visitors, visitors_inv_norm=norms)


def check_integers(name: str, ids: Tensor) -> None:
    """Raise TypeError or ValueError unless these are integers [N]."""
    check_dense(name, ids)
    check_data(**{name: ids})
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"{name} must be integers, got {ids.dtype}")
    if ids.ndim != 1:
        raise ValueError(f"{name} must be [N], got shape {list(ids.shape)}")
