"""The losses of trainers that are no packages, written down from their formulas, and the adapters.

google-research/simclr, solo-learn, Spijkervet/SimCLR and Lightning Bolts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext.compat.bolts import nt_xent_loss as bolts_loss
from simclr_ext.compat.google import add_contrastive_loss
from simclr_ext.compat.solo_learn import simclr_loss_func
from simclr_ext.compat.spijkervet import NT_Xent
from tests.compat_losses.helpers import assert_same_training, batches, dtypes, unit
from tests.losses import dense

sizes = pytest.mark.parametrize(("n", "temperature"), [(1, 0.5), (2, 0.1), (33, 0.1), (33, 1.0)])


def google(
    hidden: Tensor, norm: bool = True, temperature: float = 1.0, weights: float | Tensor = 1.0
) -> Tensor:
    """Return the sum of two weighted means, over the weights that are not 0."""
    if norm:
        hidden = hidden / hidden.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
    a, b = hidden.chunk(2)
    n = len(a)
    w = torch.as_tensor(weights, dtype=hidden.dtype).expand(n)
    total = hidden.new_zeros(())
    for x, y in ((a, b), (b, a)):
        logits = torch.cat([x @ y.mT, x @ x.mT - 1e9 * torch.eye(n)], 1) / temperature
        losses = F.cross_entropy(logits, torch.arange(n), reduction="none")
        total = total + (w * losses).sum() / (w != 0).sum()
    return total


@dtypes
@sizes
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("weighting", ["none", "number", "vector"])
def test_google(weighting: str, norm: bool, n: int, temperature: float, dtype: torch.dtype) -> None:
    vector = torch.arange(1, n + 1).remainder(3) * 0.5  # some are 0
    weights = {"none": 1.0, "number": 2.5, "vector": vector}[weighting]

    def wrapped(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *z: loss(0.5 * torch.cat(z), norm, temperature, weights=weights)

    assert_same_training(wrapped(google), wrapped(add_contrastive_loss), batches(n, 2, dtype))


def test_google_is_twice_the_mean() -> None:
    z = torch.randn(10, 4, dtype=torch.float64)
    expected = 2 * dense.nt_xent(*z.chunk(2), 1.0).mean()
    torch.testing.assert_close(add_contrastive_loss(z), expected)
    tiny = torch.full((2, 4), 1e-8, dtype=torch.float64)  # shorter than the smallest norm
    tiny[1, 0] = 5
    z = torch.cat([z[:8], tiny])
    torch.testing.assert_close(add_contrastive_loss(z), google(z))
    assert add_contrastive_loss(z, weights=0).item() == 0


def test_google_errors() -> None:
    z = torch.randn(6, 3)
    with pytest.raises(NotImplementedError, match="tpu_context must be None"):
        add_contrastive_loss(z, True, 1.0, object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"hidden must be \[2N, D\], got 5 rows"):
        add_contrastive_loss(z[:5])
    with pytest.raises(ValueError, match=r"weights must be a number or \[N\] = \[3\]"):
        add_contrastive_loss(z, weights=torch.ones(6))


def solo(z: Tensor, indexes: Tensor, temperature: float) -> Tensor:
    """Return the mean over the rows of -log(sum over positives / sum over others)."""
    others = ~torch.eye(len(z), dtype=torch.bool)
    positive = (indexes[:, None] == indexes) & others
    e = (dense.cosines(z, z) / temperature).exp()
    return -((e * positive).sum(1) / (e * others).sum(1)).log().mean()


@dtypes
@sizes
@pytest.mark.parametrize("views", [2, 3, 5])
def test_solo_learn(views: int, n: int, temperature: float, dtype: torch.dtype) -> None:
    indexes = torch.arange(n).repeat(views) * 2**40

    def wrapped(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *z: loss(torch.cat(z), indexes, temperature)

    assert_same_training(wrapped(solo), wrapped(simclr_loss_func), batches(n, views, dtype))


def test_solo_learn_of_classes_of_any_size() -> None:
    z, classes = torch.randn(9, 4, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    torch.testing.assert_close(simclr_loss_func(z, classes), solo(z, classes, 0.1))
    classes[-1] = 7  # alone
    assert simclr_loss_func(z=z, indexes=classes, temperature=0.2).item() == math.inf


def test_solo_learn_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"indexes must be \[N\] = \[4\]"):
        simclr_loss_func(z, torch.arange(3))
    with pytest.raises(ValueError, match=r"z must be \[N V, D\]"):
        simclr_loss_func(z[0], torch.arange(4))
    monkeypatch.setattr("simclr_ext.compat.solo_learn.processes", lambda: 2)
    with pytest.raises(NotImplementedError, match=r"simclr_loss_func gathers .* all 2 processes"):
        simclr_loss_func(z, torch.arange(4) % 2)


@dtypes
@sizes
def test_spijkervet(n: int, temperature: float, dtype: torch.dtype) -> None:
    def theirs(z_i: Tensor, z_j: Tensor) -> Tensor:
        z = torch.cat([z_i, z_j])
        logits = F.cosine_similarity(z[:, None], z, dim=2) / temperature
        logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
        return F.cross_entropy(logits, torch.arange(2 * n).roll(n), reduction="sum") / (2 * n)

    assert_same_training(theirs, NT_Xent(n, temperature, 1), batches(n, 2, dtype))


def test_spijkervet_errors() -> None:
    with pytest.raises(NotImplementedError, match="world_size=2 gathers the negatives"):
        NT_Xent(4, 0.5, 2)
    with pytest.raises(ValueError, match="z_i must have batch_size = 4 rows, got 3"):
        NT_Xent(batch_size=4, temperature=0.5, world_size=1)(torch.randn(3, 2), torch.randn(3, 2))


def bolts(out_1: Tensor, out_2: Tensor, temperature: float, eps: float) -> Tensor:
    """Return -log(pos / (max(sum - e^(1/T), eps) + eps)), the sum with the row itself."""
    out = torch.cat([out_1, out_2])
    n = (out @ out.mT / temperature).exp().sum(1) - math.exp(1 / temperature)
    positive = ((out_1 * out_2).sum(1) / temperature).exp().repeat(2)
    return -(positive / (n.clamp(min=eps) + eps)).log().mean()


@sizes
@pytest.mark.parametrize("eps", [1e-6, 0.3, 30.0])
def test_bolts(eps: float, n: int, temperature: float) -> None:
    def wrapped(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, y: loss(unit(x), unit(y), temperature, eps)

    assert_same_training(wrapped(bolts), wrapped(bolts_loss), batches(n, 2, torch.float64))


@pytest.mark.parametrize("scale", [0.4, 1.3])
def test_bolts_of_rows_of_any_length(scale: float) -> None:
    x, y = scale * torch.randn(2, 9, 4, dtype=torch.float64)
    found = []
    for loss in (bolts, bolts_loss):
        z = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        value = loss(*z, 0.5, 1e-6)
        found.append([value, *torch.autograd.grad(value, z)])
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_bolts_in_float32_is_as_near_to_the_formula_as_its_rows_allow(temperature: float) -> None:
    x, y = (unit(z) for z in torch.randn(2, 33, 6))
    found = bolts_loss(x, y, temperature)
    assert found.dtype == torch.float32
    exact = bolts(x.double(), y.double(), temperature, 1e-6)
    torch.testing.assert_close(found.double(), exact, rtol=3e-6, atol=0)


@pytest.mark.parametrize("temperature", [0.005, 0.01])
def test_bolts_is_finite_at_small_temperatures(temperature: float) -> None:
    x, y = (unit(z).requires_grad_() for z in torch.randn(2, 9, 4))
    loss = bolts_loss(x, y, temperature)
    gradients = torch.autograd.grad(loss, [x, y])
    assert all(value.isfinite().all() for value in (loss, *gradients))


def test_bolts_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match="eps must be positive and finite, got 0"):
        bolts_loss(z, z, 0.5, 0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        bolts_loss(z, z, -0.5)
    with pytest.raises(ValueError, match="out_2 must have the shape of out_1"):
        bolts_loss(z, z[:2], 0.5)
    monkeypatch.setattr("simclr_ext.compat.bolts.processes", lambda: 3)
    with pytest.raises(NotImplementedError, match=r"nt_xent_loss gathers .* all 3 processes"):
        bolts_loss(z, z, 0.5)
