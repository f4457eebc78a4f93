"""Checks of other losses and of by-products: right kernels pass them, wrong ones do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import by_products, rectangle, sentences, sigmoid
from benchmarks.gpu.cases import Case
from benchmarks.gpu.precision import BFLOAT16, FLOAT16, FLOAT32
from simclr_ext import info_nce_loss, nt_xent_loss_with_stats, siglip_loss

CPU = torch.device("cpu")
KINDS = [FLOAT32, BFLOAT16, FLOAT16]
PRECISIONS = pytest.mark.parametrize("precision", KINDS, ids=lambda p: p.name)


@PRECISIONS
@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (100.0, -20.0), (1.0, 3.0)])
def test_the_sigmoid_loss_passes(scale: float, bias: float, precision: Any) -> None:
    for queries, keys in ((1, 1), (33, 150)):
        row = sigmoid.check(sigmoid.Case(precision, queries, keys, 24, scale, bias), CPU)
        assert row["status"] == "ok", sentences.of_job(row)
        assert set(row["budget_used"]) == set(sigmoid.NAMES)


@PRECISIONS
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_the_rectangle_passes(temperature: float, precision: Any) -> None:
    for n in (1, 70):
        row = rectangle.check(Case("fused", precision, n, 24, temperature), CPU)
        assert row["status"] == "ok", sentences.of_job(row)
        assert set(row["budget_used"]) == set(rectangle.NAMES)


@PRECISIONS
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_by_products_pass(temperature: float, precision: Any) -> None:
    for n in (2, 70):
        row = by_products.check(Case("fused", precision, n, 24, temperature), CPU)
        assert row["status"] == "ok", sentences.of_job(row)
        assert len(row["budget_used"]) == 7


def wrong_loss(right: Any, place: int) -> Any:
    """Return a loss whose fused value is wrong, or the gradient of its argument at a place."""

    def wrong(*args: Any, backend: Any, **options: Any) -> Tensor:
        given = list(args)
        factor = 1.0
        if backend == "fused" and place >= 0:
            given[place] = given[place].detach() + (given[place] - given[place].detach()) * 1.1
        elif backend == "fused":
            factor = 1.001
        loss: Tensor = right(*given, backend=backend, **options)
        return loss * factor

    return wrong


@pytest.mark.parametrize("fault", sigmoid.NAMES)
def test_wrong_sigmoid_losses_fail(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = sigmoid.NAMES.index(fault) - 1  # of the argument whose gradient is wrong
    monkeypatch.setattr(sigmoid, "siglip_loss", wrong_loss(siglip_loss, place))
    row = sigmoid.check(sigmoid.Case(FLOAT32, 33, 150, 24), CPU)
    assert fault in {found["quantity"] for found in row["faults"]}


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("fault", rectangle.NAMES)
def test_wrong_rectangles_fail(
    fault: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = rectangle.NAMES.index(fault) - 1
    monkeypatch.setattr(rectangle, "info_nce_loss", wrong_loss(info_nce_loss, place))
    row = rectangle.check(Case("fused", FLOAT32, 70, 128, temperature), CPU)
    assert fault in {found["quantity"] for found in row["faults"]}


@pytest.mark.parametrize("fault", ["lse", "hardest_index", "entropy", "uniformity"])
def test_wrong_by_products_fail(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: Any, backend: Any, **options: Any) -> tuple[Tensor, Any]:
        loss, stats = nt_xent_loss_with_stats(*args, backend=backend, **options)
        if backend == "fused":
            value = getattr(stats, fault)
            value = value.roll(1) if fault == "hardest_index" else value * 1.001
            stats = stats._replace(**{fault: value})
        return loss, stats

    monkeypatch.setattr(by_products, "nt_xent_loss_with_stats", wrong)
    row = by_products.check(Case("fused", FLOAT32, 70, 24), CPU)
    assert {found["quantity"] for found in row["faults"]} == {fault}
