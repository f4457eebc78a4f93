"""The error budget: errors that it accepts, and errors that it must not accept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simclr_ext.testing import error_budget, error_norm
from tests.accuracy import loss_and_grads

EPS = 1e-3
U = torch.finfo(torch.float32).eps


def zero_row_case() -> tuple[tuple[Tensor, Tensor], list[Tensor], list[Tensor]]:
    """Return views of which one row is 0, and loss and gradients in float32 and float64."""
    z0, z1 = torch.randn(2, 20, 6)
    z0[0] = 0
    results = (
        loss_and_grads((z0, z1), 0.5, backend="reference", dtype=dtype, eps=EPS)
        for dtype in (torch.float32, torch.float64)
    )
    return ((z0, z1), *results)


def test_a_gradient_of_0_for_a_zero_row_is_beyond_the_budget() -> None:
    views, eager, exact = zero_row_case()
    budget = error_budget("grad_z0", exact[1], eager[1], torch.cat(views), 0.5, rounding=U, eps=EPS)
    assert error_norm(eager[1], exact[1]) <= budget
    without = eager[1].clone()
    without[0] = 0
    assert error_norm(without, exact[1]) > 1000 * budget


def test_the_natural_size_of_a_gradient_is_that_of_its_shortest_row_but_not_below_eps() -> None:
    rows, zero = torch.randn(8, 3), torch.zeros(4, 3, dtype=torch.float64)
    rows[2] = 0

    def budget(eps: float) -> float:
        return error_budget("grad_z0", zero, zero, rows, 0.5, rounding=U, eps=eps)

    assert budget(1e-3) == pytest.approx(8 * U * 1e3 / 0.5 / math.sqrt(8))
    assert budget(1e-6) == pytest.approx(1000 * budget(1e-3))


@pytest.mark.parametrize("name", ["loss", "grad_z0", "grad_temperature"])
def test_nothing_is_allowed_to_a_single_pair(name: str) -> None:
    zero, off = torch.zeros(2, dtype=torch.float64), torch.full((2,), 1e-30)
    rows = torch.randn(2, 3)
    options = {"rounding": U, "least": 1e-8}
    assert error_budget(name, zero, off, rows, 0.5, single_pair=True, **options) == 0
    assert error_budget("lse", zero, off, rows, 0.5, single_pair=True, **options) > 0


def test_what_each_argument_allows() -> None:
    rows, exact = 2 * torch.eye(4), torch.full((4,), 3.0, dtype=torch.float64)

    def budget(name: str, **options: float) -> float:
        return error_budget(name, exact, exact, rows, 0.5, **{"rounding": U} | options)

    assert budget("loss") == pytest.approx(8 * U * (6 + 2 / 0.5))
    assert budget("lse", roundings=1) == pytest.approx(budget("loss") / 8)
    assert budget("loss", normalize=False) == pytest.approx(8 * U * (6 + 2 * 4 / 0.5))
    assert budget("loss", least=1e-3) == pytest.approx(budget("loss") + 2e-3)
    assert budget("grad_temperature") == pytest.approx(8 * U * 4)
    # Beyond: of a similarity of 4 in a logit at T = 0.5.
    assert budget("grad_z", logit_rounding=U, normalize=False) == pytest.approx(
        9 * budget("grad_z", normalize=False)
    )
    doubled = error_budget("loss", exact, exact + 1, rows, 0.5, rounding=0.0)
    assert doubled == pytest.approx(2 * 2)  # twice eager's error


def test_nan_is_not_within_a_budget() -> None:
    exact = torch.ones(3, dtype=torch.float64)
    budget = error_budget("loss", exact, exact, torch.eye(3), 0.5, rounding=U)
    assert not error_norm(torch.tensor([1.0, math.nan, 1.0]), exact) <= budget
