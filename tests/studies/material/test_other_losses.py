"""Losses and gradients of table 2, written out row by row in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.studies.material.other_losses import margin_triplet_loss, nt_logistic_loss

Gradients = tuple[float, Tensor, Tensor]
"""Of one row u: its loss, and the factors of v+ and of each v- in the gradient towards u."""


def nt_xent_table(positive: Tensor, negatives: Tensor, temperature: float) -> Gradients:
    z = (positive / temperature).exp() + (negatives / temperature).exp().sum()
    p = (positive / temperature).exp() / z
    weights = (negatives / temperature).exp() / z / temperature
    return float(-p.log()), -(1 - p) / temperature, weights


def nt_logistic_table(positive: Tensor, negatives: Tensor, temperature: float) -> Gradients:
    attraction = -((positive / temperature).sigmoid()).log()
    repulsion = -((-negatives / temperature).sigmoid()).log()
    share = temperature * max(len(negatives), 1)
    return (
        float(attraction + repulsion.sum() / max(len(negatives), 1)),
        -(-positive / temperature).sigmoid() / temperature,
        (negatives / temperature).sigmoid() / share,
    )


def margin_table(positive: Tensor, negatives: Tensor, margin: float) -> Gradients:
    active = (positive - negatives < margin).double() / max(len(negatives), 1)
    loss = (active * (negatives - positive + margin)).sum()
    return float(loss), -active.sum(), active


# Loss, the table's formulas, whether the negatives are semi-hard, temperatures or margins.
CASES = {
    "nt-xent": (nt_xent_loss, nt_xent_table, False, (0.1, 0.5, 1.0)),
    "nt-logistic": (nt_logistic_loss, nt_logistic_table, False, (0.1, 0.5, 1.0)),
    "nt-logistic-sh": (nt_logistic_loss, nt_logistic_table, True, (0.1, 0.5, 1.0)),
    "margin": (margin_triplet_loss, margin_table, False, (0.0, 0.4, 1.6)),
    "margin-sh": (margin_triplet_loss, margin_table, True, (0.0, 0.4, 1.6)),
}


def written_out(
    table: Callable[[Tensor, Tensor, float], Gradients],
    views: tuple[Tensor, Tensor],
    parameter: float,
    semi_hard: bool,
) -> tuple[float, Tensor]:
    """Return the mean loss and its gradient by the raw rows, by the table's formulas.

    Each similarity s_ij of row i moves z_i along z_j and z_j along z_i.
    """
    raw = torch.cat(views)
    norms = raw.norm(dim=1, keepdim=True)
    z = raw / norms
    count, n = len(z), len(views[0])
    total, towards_unit = 0.0, torch.zeros_like(z)
    for i in range(count):
        p = (i + n) % count
        columns = [j for j in range(count) if j not in (i, p)]
        if semi_hard:
            easier = [j for j in columns if float(z[i] @ z[j]) < float(z[i] @ z[p])]
            columns = sorted(easier, key=lambda j, i=i: float(z[i] @ z[j]))[-1:]  # type: ignore[misc]
        loss, towards_positive, weights = table(z[i] @ z[p], z[columns] @ z[i], parameter)
        total += loss
        for j, weight in [(p, towards_positive), *zip(columns, weights, strict=True)]:
            towards_unit[i] += weight * z[j] / count
            towards_unit[j] += weight * z[i] / count
    radial = (towards_unit * z).sum(dim=1, keepdim=True)
    return total / count, (towards_unit - radial * z) / norms


@pytest.fixture(params=[2, 3, 7])
def views(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(request.param)
    z0, z1 = torch.randn(2, request.param, 5, dtype=torch.float64, generator=random)
    return z0, z0 + 0.7 * z1


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_table_2s(
    name: str, which: int, views: tuple[Tensor, Tensor]
) -> None:
    loss_of, table, semi_hard, parameters = CASES[name]
    options = {"semi_hard": True} if semi_hard else {}
    expected, gradient = written_out(table, views, parameters[which], semi_hard)
    leaves = [z.clone().requires_grad_() for z in views]
    loss = loss_of(*leaves, parameters[which], **options)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    ours = torch.cat([z.grad for z in leaves])
    torch.testing.assert_close(ours, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss_of", [nt_logistic_loss, margin_triplet_loss])
def test_a_row_without_a_semi_hard_negative_has_none(
    loss_of: Callable[..., Tensor],
) -> None:
    """All rows are equal: no negative is less similar than the positive."""
    z0, z1 = (torch.ones(3, 4, requires_grad=True) for _ in range(2))
    loss = loss_of(z0, z1, semi_hard=True)
    attraction = 0.0 if loss_of is margin_triplet_loss else float(torch.tensor(-2.0).exp().log1p())
    assert loss.item() == pytest.approx(attraction)
    loss.backward()
    assert bool(z0.grad.isfinite().all())


@pytest.mark.parametrize("semi_hard", [False, True])
def test_hard_inputs_stay_finite_and_near_float64(semi_hard: bool) -> None:
    """Opposite and equal rows at a temperature at which exponentials overflow."""
    z0 = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 1e-4]])
    z1 = torch.tensor([[-1.0, 0.0], [-1.0, 1e-4], [1.0, 0.0]])
    losses = []
    for dtype in (torch.float32, torch.float64):
        leaves = [z.to(dtype, copy=True).requires_grad_() for z in (z0, z1)]
        loss = nt_logistic_loss(*leaves, 0.005, semi_hard=semi_hard)
        loss.backward()
        assert all(bool(z.grad.isfinite().all()) for z in leaves)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_arguments_are_checked() -> None:
    z = torch.eye(3)
    with pytest.raises(ValueError, match=r"N >= 2, so that there are negatives, got \(1, 3\)"):
        margin_triplet_loss(z[:1], z[:1])
    with pytest.raises(ValueError, match=r"margin must be at least 0, got -0\.1"):
        margin_triplet_loss(z, z, -0.1)
    with pytest.raises(ValueError, match="temperature must be positive"):
        nt_logistic_loss(z, z, 0.0)
    with pytest.raises(ValueError, match="shape of z0"):
        nt_logistic_loss(z, z[:2])
