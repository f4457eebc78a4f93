"""The table of docs/swap.md is true: both cells of a row have the same value and gradients."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import simclr_ext
from simclr_ext import NTXentLoss

GUIDE = Path(__file__).parents[1] / "docs" / "swap.md"
ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \|$", re.MULTILINE)
ROWS = ROW.findall(GUIDE.read_text(encoding="utf-8"))
LAYOUTS = [row for row in ROWS if row[0].startswith("criterion(")]
SWAPS = [row for row in ROWS if row not in LAYOUTS]


def views() -> tuple[Tensor, Tensor]:
    """Return two views [7, 5] in float64 that need gradients."""
    generator = torch.Generator().manual_seed(1)
    z0 = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    z1 = z0 + 0.5 * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return z0.requires_grad_(), z1.requires_grad_()


def inputs(z0: Tensor, z1: Tensor) -> dict[str, Any]:
    """Return what the cells of the table name."""
    stacked, pairs = torch.cat([z0, z1]), torch.stack([z0, z1], dim=1)
    unit = F.normalize(stacked, dim=1)
    images = torch.arange(len(z0))
    cosines, rows = unit @ unit.mT, torch.arange(len(stacked))
    negative = (rows[:, None] - rows) % len(z0) != 0
    return {
        **{name: getattr(simclr_ext, name) for name in simclr_ext.__all__},
        "F": F,
        "classes": images.repeat(2) % 3,
        "cosines": cosines.clone(),  # a cell overwrites it
        "criterion": NTXentLoss(0.1),
        "inf": torch.inf,
        "interleaved": pairs.flatten(0, 1),
        "labels": images.repeat(2),
        "pairs": pairs,
        "positives": torch.arange(len(stacked)).roll(len(z0)),
        "simclr_ext": simclr_ext,
        "stacked": stacked,
        "to_negatives": cosines[negative].view(len(rows), -1),
        "to_positive": cosines[rows, rows.roll(len(z0)), None],
        "torch": torch,
        "z0": z0,
        "z1": z1,
        "zeros": torch.zeros_like(rows),
    }


def computed(cell: str) -> tuple[Tensor, ...]:
    """Return the value of a cell, and its gradients with respect to both views."""
    z0, z1 = views()
    names = inputs(z0, z1)
    package = cell.partition(".")[0]
    if package.isidentifier() and package not in names:  # another library
        pytest.importorskip(package)
        importlib.import_module(cell.partition("(")[0].rpartition(".")[0])
        names[package] = importlib.import_module(package)
    value = eval(cell, names)
    return (value, *torch.autograd.grad(value, [z0, z1]))


@pytest.mark.parametrize(("have", "write"), SWAPS)
def test_both_cells_have_the_same_value_and_gradients(have: str, write: str) -> None:
    torch.testing.assert_close(computed(write), computed(have), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("have", "write"), LAYOUTS)
def test_one_tensor_is_split_into_its_views(have: str, write: str) -> None:
    torch.testing.assert_close(computed(write), computed("criterion(z0, z1)"), rtol=0, atol=0)
    with pytest.raises(TypeError, match="pass two views"):
        computed(have)


def test_the_table_was_read() -> None:
    assert (len(SWAPS) >= 4, len(LAYOUTS)) == (True, 3)
