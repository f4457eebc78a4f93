"""Checks what the operators over ranks are called with, before the ranks meet.

An operator that fails on one rank alone leaves the others waiting; but what is wrong on all ranks,
such as a name or the sizes, is an error of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simclr_ext._checks.pairs import EXCHANGES, check_row_numbers
from simclr_ext._checks.tensors import check_data, check_dense
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
    """Raise TypeError or ValueError unless labels and numbers are those of this rank's rows.

    Shifts are checked by the operators for the own block.

    Args:
        rows: R.
        columns: C; None if the columns are the rows.
        shifts: Of the positives in the own block: none with labels.
        label: If the columns are the rows.
        ignored: Numbers of the rows and columns.
        denominator: Which pairs are terms; only with labels the positives.
        device: Device of the rows.
    """
    if label is not None and columns is not None:
        raise ValueError("labels need columns that are the rows, got other columns")
    if label is not None and list(shifts):
        raise ValueError(f"labels need shifts = [], got {list(shifts)}")
    if label is None and denominator == "positives":
        raise ValueError("denominator 'positives' needs labels, got none")
    for name, numbers in (("label", label), ("ignored", ignored)):
        if numbers is not None:
            check_row_numbers(name, numbers, rows + (columns or 0), device)


def check_integers(name: str, ids: Tensor) -> None:
    """Raise TypeError or ValueError unless these are integers [N]."""
    check_dense(name, ids)
    check_data(**{name: ids})
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"{name} must be integers, got {ids.dtype}")
    if ids.ndim != 1:
        raise ValueError(f"{name} must be [N], got shape {list(ids.shape)}")
