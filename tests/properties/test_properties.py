"""What is true of all losses, whatever they are called with."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.testing import ROUNDINGS, error_budget, error_norm
from tests.properties.cases import EPS, Case, Rows, log_uniform, temperatures
from tests.properties.losses import LOSSES, pairs_of_views

every_loss = pytest.mark.parametrize("name", LOSSES)
_ROUNDINGS = 16


@every_loss
@given(data=st.data())
def test_close_to_float64(name: str, data: st.DataObject) -> None:
    case = data.draw(LOSSES[name])
    normalize = data.draw(st.booleans())
    check_accuracy(case, normalize)


def check_accuracy(case: Case, normalize: bool) -> None:
    """Fail if a loss or a gradient exceeds the error budget."""
    inputs = case.plain()
    options = {"normalize": normalize, "eps": EPS}
    ours = case.results(inputs, **options)
    eager = case.results(inputs, backend="reference", **options)
    truth = case.results(inputs, torch.float64, backend="reference", **options)
    roundings = ROUNDINGS + case.roundings
    if case.dtype == torch.float64 or not normalize:
        # The truth is as rounded, or eager may be exact by luck, where rows are equal. A weight has
        # the rounding of its logit.
        roundings += case.sharpness * (1.0 if normalize else largest_square(inputs))
    names = ["loss", *(f"gradient of batch {index}" for index in range(len(inputs)))]
    for name, value, other, exact in zip(
        [*names, "grad_temperature"], ours, eager, truth, strict=True
    ):
        rounding = torch.finfo(value.dtype).eps
        if name != "loss":
            rounding = max(rounding, case.weight_rounding)
        budget = error_budget(
            name,
            exact,
            other,
            torch.cat(inputs),
            1 / case.sharpness,
            rounding=rounding,
            roundings=roundings,
            least=torch.finfo(value.dtype).smallest_normal,
            normalize=normalize,
            eps=EPS,
        )
        error = error_norm(value, exact)
        of_eager = error_norm(other, exact)
        assert error <= budget, f"{name}: {error:.2e}, eager {of_eager:.2e}, {budget:.2e}"


@every_loss
@given(data=st.data())
def test_bounds(name: str, data: st.DataObject) -> None:
    case = data.draw(LOSSES[name])
    losses = case.losses(case.scaled(), eps=EPS).double()
    least, most = case.bounds
    slack = _ROUNDINGS * case.rounding * (case.sharpness + abs(most))
    assert losses.min() >= least - slack
    assert losses.max() <= most + slack


@every_loss
@given(data=st.data())
def test_the_length_of_rows_has_no_effect(name: str, data: st.DataObject) -> None:
    """Rows times powers of two have the same loss, bit for bit, and gradients divided by these."""
    case = data.draw(LOSSES[name])
    plain = case.results(case.plain(), eps=EPS)
    scaled = case.results(case.scaled(), eps=EPS)
    assert torch.equal(scaled[0], plain[0])
    assert torch.equal(scaled[-1], plain[-1])
    for rows, found, grad in zip(case.rows, scaled[1:-1], plain[1:-1], strict=True):
        kind = torch.finfo(found.dtype)
        expected = grad.double() / rows.scale
        underflow = kind.smallest_normal * kind.eps * (1 + 1 / rows.scale)
        assert ((found.double() - expected).abs() <= kind.eps * expected.abs() + underflow).all()


@every_loss
@given(data=st.data())
def test_the_order_of_images_has_no_effect(name: str, data: st.DataObject) -> None:
    case = data.draw(LOSSES[name])
    order = torch.tensor(data.draw(st.permutations(range(case.images))))
    losses = case.losses(case.scaled(), eps=EPS)

    def permuted(values: Tensor) -> Tensor:
        return values[order] if len(values) == case.images else values

    ids = {name: permuted(values) for name, values in case.ids.items()}
    found = case.losses([permuted(z) for z in case.scaled()], eps=EPS, **ids)
    assert_same(found, losses[:, order], case)


def assert_same(found: Tensor, expected: Tensor, case: Case) -> None:
    """Fail unless losses that were summed in another order are the same."""
    slack = _ROUNDINGS * case.rounding * case.sharpness
    torch.testing.assert_close(found, expected, rtol=_ROUNDINGS * case.rounding, atol=slack)


@every_loss
@given(data=st.data())
def test_gradients_are_orthogonal_to_normalized_rows(name: str, data: st.DataObject) -> None:
    case = data.draw(LOSSES[name])
    inputs = case.plain()
    grads = case.results(inputs, eps=EPS)[1:-1]
    along, size = radial(inputs, grads)
    slack = _ROUNDINGS * case.rounding * case.sharpness + torch.finfo(case.dtype).eps * size
    assert along.abs().sum() <= slack


@pytest.mark.parametrize("name", ["nt_xent", "info_nce", "sup_con", "siglip"])
@given(data=st.data())
def test_gradients_along_the_rows_are_that_of_the_temperature(
    name: str, data: st.DataObject
) -> None:
    """For dot products, s_ij / T is of degree 2 in the rows: sum_i z_i . dz_i = -2 T dT."""
    case = data.draw(LOSSES[name])
    inputs = case.plain()
    *grads, grad_temperature = case.results(inputs, eps=EPS, normalize=False)[1:]
    along, size = radial(inputs, grads)
    # A loss of two passes adds two gradients that were rounded.
    rounding = _ROUNDINGS * case.weight_rounding + torch.finfo(case.dtype).eps
    slack = rounding * case.sharpness * largest_square(inputs)
    held = torch.tensor(case.temperature, dtype=grad_temperature.dtype).double()
    difference = along.sum() + 2 * held * grad_temperature.double()
    assert difference.abs() <= slack + torch.finfo(case.dtype).eps * size


def largest_square(inputs: list[Tensor]) -> float:
    """Return the square of the length of the longest row."""
    return max(float(z.double().norm(dim=1).max()) for z in inputs) ** 2


def radial(inputs: list[Tensor], grads: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return z_i . dz_i of all rows, and the sum of |z_i| |dz_i|."""
    z, grad = torch.cat(inputs).double(), torch.cat(grads).double()
    return (z * grad).sum(1), (z.norm(dim=1) * grad.norm(dim=1)).sum()


@pytest.mark.parametrize("name", ["nt_xent", "dcl", "hcl"])
@given(data=st.data())
def test_the_views_are_symmetric(name: str, data: st.DataObject) -> None:
    case = data.draw(LOSSES[name])
    z0, z1 = case.scaled()
    assert_same(case.losses([z1, z0], eps=EPS), case.losses([z0, z1], eps=EPS).flip(0), case)


@given(rows=pairs_of_views(), temperature=temperatures, factor=log_uniform(1e-6, 1e6))
def test_the_mean_is_that_of_the_weights(
    rows: list[Rows], temperature: float, factor: float
) -> None:
    z0, z1 = (batch.scaled for batch in rows)
    losses = nt_xent_loss(z0, z1, temperature, eps=EPS, reduction="none").double()
    weights = torch.tensor([2.0, 0.0, 1.0]).repeat(len(z0))[: len(z0)]
    each = weights.double().repeat(2)
    found = nt_xent_loss(z0, z1, temperature, eps=EPS, weights=factor * weights)
    expected = (losses * each).sum() / each.sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
