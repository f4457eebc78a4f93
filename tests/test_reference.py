"""The reference against a loop over rows and columns that could not be plainer."""

from __future__ import annotations

import math

import pytest
import torch

from simclr_ext.reference import nt_xent


def losses_by_loop(
    rows: list[list[float]], n: int, temperature: float, normalize: bool, eps: float
) -> list[float]:
    def similarity(x: list[float], y: list[float]) -> float:
        dot = sum(a * b for a, b in zip(x, y, strict=True))
        if not normalize:
            return dot
        return dot / max(math.hypot(*x), eps) / max(math.hypot(*y), eps)

    losses = []
    for i, row in enumerate(rows):
        positive = rows[i + n] if i < n else rows[i - n]
        denominator = sum(
            math.exp(similarity(row, other) / temperature) for j, other in enumerate(rows) if j != i
        )
        numerator = math.exp(similarity(row, positive) / temperature)
        losses.append(-math.log(numerator / denominator))
    return losses


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 3.0])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (7, 4)])
def test_against_the_loop(n: int, d: int, temperature: float, normalize: bool) -> None:
    z0, z1 = torch.randn(2, n, d, dtype=torch.float64)
    z0[0] *= 1e-3  # shorter than eps
    expected = losses_by_loop([*z0.tolist(), *z1.tolist()], n, temperature, normalize, 0.01)
    for reduction, value in (
        ("none", expected),
        ("sum", sum(expected)),
        ("mean", sum(expected) / (2 * n)),
    ):
        loss = nt_xent(z0, z1, temperature, reduction=reduction, normalize=normalize, eps=0.01)
        torch.testing.assert_close(loss, torch.tensor(value, dtype=torch.float64))


def test_half_views_are_computed_in_float32() -> None:
    z = torch.randn(4, 8).bfloat16()
    options = {"reduction": "none", "normalize": True, "eps": 1e-12}
    loss = nt_xent(z, z, 0.5, **options)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, nt_xent(z.float(), z.float(), 0.5, **options))
