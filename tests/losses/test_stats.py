"""By-products of the loss: the same as those of the dense matrix, in the same pass."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from simclr_ext import contrastive_metrics, nt_xent_loss, nt_xent_loss_with_stats
from simclr_ext.backends import ops, reference
from simclr_ext.backends.tiled import schedule
from tests.contrastive import Case
from tests.test_contrastive import FORMS

STATS_FORMS = ["NT-Xent", "neighbors", "SupCon", "shift 0", "labels", "NT-Xent, ignored"]


@pytest.fixture(params=["fused", "tiled"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a backend; tiles are small, so that these few rows make many and ragged ones."""
    monkeypatch.setattr(schedule, "_CPU_SIDE", 64)
    ops.register()
    return str(request.param)


def stats(case: Case, backend: str) -> tuple[Tensor, ...]:
    ours = torch.ops.simclr_ext
    operator = ours.contrastive_tiled_stats if backend == "tiled" else ours.contrastive_stats
    options = (case.held_temperature, case.normalize, case.eps)
    pairing = (list(case.shifts), case.label, case.ignored)
    results: tuple[Tensor, ...] = operator(case.x, case.y, *options, *pairing)
    return results


@pytest.mark.parametrize("form", STATS_FORMS)
@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (65, 41), (300, 170)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_by_products(
    dtype: torch.dtype, rows: int, columns: int, temperature: float, form: str, backend: str
) -> None:
    case = replace(FORMS[form](rows, columns), temperature=temperature, of_lse=False)
    z = case.rows.double()
    x, y = z[: len(case.x)], None if case.y is None else z[len(case.x) :]
    case = replace(case, x=x.to(dtype), y=None if y is None else y.to(dtype))
    held = case.held_temperature
    loss, lse, positive, hardest, index, mean, near = reference.contrastive(
        x, y, held, normalize=True, eps=case.eps, shifts=case.shifts, label=case.label,
        ignored=case.ignored, with_stats=True,
    )  # fmt: skip
    found = stats(case, backend)
    tolerance = 1e-9 if dtype == torch.float64 else 3e-5 / min(1, temperature)
    pairs = zip(
        (*found[:2], *found[4:]), (loss, lse, positive, hardest, index, mean, near), strict=True
    )
    for value, truth in pairs:
        if truth is index:
            if dtype == torch.float64:  # rounding may exchange two that are as hard
                assert torch.equal(value, truth)
            continue
        torch.testing.assert_close(
            value.double(), truth, rtol=tolerance, atol=tolerance, equal_nan=True
        )
    unit = torch.nn.functional.normalize(z, dim=1)
    reached = index >= 0
    similarity = (unit * unit[found[6].clamp(min=0)]).sum(1)
    torch.testing.assert_close(found[5].double()[reached], similarity[reached], rtol=0, atol=1e-5)


def test_loss_and_gradients_are_those_of_the_loss(backend: str) -> None:
    grads = []
    z0, z1 = torch.randn(2, 130, 6)
    for loss_of in (nt_xent_loss, lambda *args, **o: nt_xent_loss_with_stats(*args, **o)[0]):
        x, t = z0.clone().requires_grad_(), torch.tensor(0.2, requires_grad=True)
        loss = loss_of(x, z1, t, backend=backend)
        loss.backward()
        grads.append((loss.detach(), x.grad, t.grad))
    for value, expected in zip(*grads, strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("name", ["fused", "tiled", "reference"])
def test_they_agree_with_the_metrics(name: str) -> None:
    z0 = torch.randn(70, 4)
    z1 = z0 + 0.7 * torch.randn(70, 4)
    _, found = nt_xent_loss_with_stats(z0, z1, 0.3, backend=name)
    expected = contrastive_metrics(z0, z1, 0.3)
    assert 0 < found.accuracy < 1
    torch.testing.assert_close(found.accuracy, expected.accuracy.float())
    torch.testing.assert_close(found.entropy.mean(), expected.entropy.float())
    positive = expected.positive_similarity.float()
    torch.testing.assert_close(found.positive_similarity.mean(), positive)
    torch.testing.assert_close(found.alignment, 2 - 2 * positive)
    z = torch.nn.functional.normalize(torch.cat([z0, z1]).double(), dim=1)
    distance = torch.cdist(z, z).square().mul(-2).exp()
    others = (torch.arange(140)[:, None] - torch.arange(140)) % 70 != 0
    uniformity = distance[others].mean().log().float()
    torch.testing.assert_close(found.uniformity, uniformity, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fused", "tiled", "reference"])
@pytest.mark.parametrize("positive", [False, True], ids=["", "positive ids"])
@pytest.mark.parametrize("ignored", [False, True], ids=["", "ignored ids"])
def test_uniformity_is_a_mean_over_the_negatives(name: str, positive: bool, ignored: bool) -> None:
    z0, z1 = torch.randn(2, 12, 4)
    images = torch.arange(12)
    positive_ids, ignore_ids = images // 2 if positive else None, images % 3 if ignored else None
    _, found = nt_xent_loss_with_stats(
        z0, z1, 0.3, positive_ids=positive_ids, ignore_ids=ignore_ids, backend=name
    )
    z = torch.nn.functional.normalize(torch.cat([z0, z1]).double(), dim=1)
    near = torch.cdist(z, z).square().mul(-2).exp()
    numbers = [ids.repeat(2) for ids in (images, positive_ids, ignore_ids) if ids is not None]
    negative = torch.stack([ids[:, None] != ids for ids in numbers]).all(0)
    expected = near[negative].mean().log().float()
    torch.testing.assert_close(found.uniformity, expected, rtol=1e-4, atol=1e-5)


def test_without_negatives_there_is_no_uniformity(backend: str) -> None:
    z = torch.randn(2, 4, 3)
    for ids in ({"positive_ids": torch.zeros(4).long()}, {"ignore_ids": torch.zeros(4).long()}):
        _, found = nt_xent_loss_with_stats(z[0], z[1], **ids, backend=backend)
        assert found.uniformity.isnan()


def test_the_first_of_equal_negatives(backend: str) -> None:
    z = torch.eye(3).repeat(50, 1)[:100]
    _, found = nt_xent_loss_with_stats(z, z, 0.5, backend=backend)
    rows = torch.cat([z, z])
    same = (rows @ rows.T > 0.5) & ((torch.arange(200)[:, None] - torch.arange(200)) % 100 != 0)
    assert torch.equal(found.hardest_index, same.int().argmax(1))
    assert torch.equal(found.hardest_similarity, torch.ones(200))
    assert found.accuracy == 0  # a tie is not closer


def test_a_single_pair_has_no_negatives(backend: str) -> None:
    z = torch.randn(2, 1, 3)
    loss, found = nt_xent_loss_with_stats(z[0], z[1], backend=backend)
    assert loss == 0
    assert found.hardest_index.tolist() == [-1, -1]
    assert found.hardest_similarity.tolist() == [-math.inf, -math.inf]
    assert found.accuracy == 1
    torch.testing.assert_close(found.entropy, torch.zeros(2))
    assert found.uniformity.isnan()


def test_opcheck(backend: str) -> None:
    ours = torch.ops.simclr_ext
    operator = ours.contrastive_tiled_stats if backend == "tiled" else ours.contrastive_stats
    t = torch.tensor(0.3, dtype=torch.float64)
    torch.library.opcheck(operator, (torch.randn(6, 3), None, t, True, 1e-6, [3, -3], None, None))


def test_what_is_not_there() -> None:
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"temperature must be a float .* got .* \(4,\)"):
        nt_xent_loss_with_stats(z, z, torch.ones(4))
    with pytest.raises(TypeError, match="z1 is missing"):
        nt_xent_loss_with_stats(z)
