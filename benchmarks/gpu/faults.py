"""Compares a quantity with its exact value, and says where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.gpu.job import Row
from simclr_ext.testing.budget import error_norm

TILE_ROWS, TILE_COLUMNS = 128, 64  # of the largest configuration: periods of a faulty pattern
_LISTED = 16


class Comparison:
    """Collects the faults of a case, and each error as a share of its budget.

    Args:
        configuration: The kernels' configuration; part of every fault.
    """

    def __init__(self, configuration: str) -> None:
        self.configuration = configuration
        self.faults: list[Row] = []
        self.used: dict[str, float] = {}

    def add(self, name: str, found: Tensor, exact: Tensor, budget: float, kernel: str = "") -> bool:
        """Compare a quantity; return whether the norm of its error is within the budget."""
        if found.shape != exact.shape:
            self.fault(name, kernel, shape=list(found.shape), expected_shape=list(exact.shape))
            return False
        error = (found.double() - exact).norm().item()
        self.used[name] = error / budget if budget > 0 else (0.0 if error == 0 else float("inf"))
        if error <= budget:  # NaN fails
            return True
        self.fault(name, kernel, error=error, budget=budget, **where(found, exact, budget))
        return False

    def fault(self, name: str, kernel: str = "", **details: object) -> None:
        """Record what is wrong with a quantity."""
        row = {"quantity": name, "configuration": self.configuration}
        self.faults.append(row | ({"kernel": kernel} if kernel else {}) | details)

    def row(self) -> Row:
        """Return the result of the case."""
        status = "failed" if self.faults else "ok"
        return {"status": status, "faults": self.faults, "budget_used": self.used}


def compare(
    configuration: str,
    names: Sequence[str],
    run: Callable[[str, torch.dtype], Sequence[Tensor]],
    dtype: torch.dtype,
    allowed: Mapping[str, Callable[[Tensor], float]],
) -> Row:
    """Compute quantities twice by the fused kernels, and compare them with float64.

    Args:
        configuration: The kernels' configuration.
        names: Of the quantities.
        run: Computes them by a backend, in a dtype.
        dtype: Of the fused kernels' inputs.
        allowed: What roundings may add to each quantity's error, beside twice that of float32,
            given its exact value.
    """
    ours, again = (run("fused", dtype) for _ in range(2))
    truth, eager = (run("reference", wide) for wide in (torch.float64, torch.float32))
    comparison = Comparison(configuration)
    for name, value, repeated, exact, other in zip(names, ours, again, truth, eager, strict=True):
        comparison.add(name, value, exact, 2 * error_norm(other, exact) + allowed[name](exact))
        if not torch.equal(value, repeated):
            comparison.fault(name, problem="other bits in a second run")
    return comparison.row()


def where(found: Tensor, exact: Tensor, budget: float) -> Row:
    """Describe the wrong elements: how many, the first, and which rows and columns of a tile.

    An element is wrong if it alone takes four times its share of the budget; if none does, those
    with at least half of the largest error are.
    """
    error = (found.double() - exact).abs().reshape(len(exact) if exact.ndim else 1, -1)
    wrong = ~(error <= 4 * budget / max(1, exact.numel()) ** 0.5)  # NaN is wrong
    if not wrong.any():
        wrong = error >= error.max() / 2
    rows, columns = wrong.nonzero(as_tuple=True)
    first = tuple(int(index[0]) for index in (rows, columns))[: max(1, exact.ndim)]
    place = first if exact.ndim else ()
    return {
        "wrong": int(wrong.sum()),
        "of": exact.numel(),
        "first": {
            "index": list(place),
            "expected": exact[place].item(),
            "found": found[place].item(),
        },
        f"rows mod {TILE_ROWS}": _residues(rows, TILE_ROWS),
        **(
            {f"columns mod {TILE_COLUMNS}": _residues(columns, TILE_COLUMNS)}
            if exact.ndim > 1
            else {}
        ),
    }


def _residues(indices: Tensor, side: int) -> list[int] | str:
    found = torch.unique(indices % side).tolist()
    if len(found) == side:
        return "all"
    return found if len(found) <= _LISTED else [*found[:_LISTED], -1]  # -1: and more
