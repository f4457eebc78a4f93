"""Checks of what defines the pairs of an operator: positives, labels, owned rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from simclr_ext._checks.tensors import check_dense

DENOMINATORS = ("all", "negatives", "positives")
Exchange = Literal["gather", "ring"]  # how the rows of several ranks meet
EXCHANGES = get_args(Exchange)


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
