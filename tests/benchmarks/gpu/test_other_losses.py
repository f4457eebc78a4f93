"""Checks of the sigmoid loss and of by-products: right kernels pass them, wrong ones do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import by_products, sentences, sigmoid
from benchmarks.gpu.cases import Case
from benchmarks.gpu.precision import BFLOAT16, FLOAT16, FLOAT32
from simclr_ext import nt_xent_loss_with_stats, siglip_loss

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
def test_by_products_pass(temperature: float, precision: Any) -> None:
    for n in (2, 70):
        row = by_products.check(Case("fused", precision, n, 24, temperature), CPU)
        assert row["status"] == "ok", sentences.of_job(row)
        assert len(row["budget_used"]) == 7


@pytest.mark.parametrize("fault", sigmoid.NAMES)
def test_wrong_sigmoid_losses_fail(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = sigmoid.NAMES.index(fault) - 1  # of the argument whose gradient is wrong

    def wrong(*args: Any, backend: Any, **options: Any) -> Tensor:
        if backend != "fused":
            return siglip_loss(*args, backend=backend, **options)
        given = list(args)
        if place >= 0:
            given[place] = given[place].detach() + (given[place] - given[place].detach()) * 1.1
        return siglip_loss(*given, backend=backend, **options) * (1.001 if place < 0 else 1)

    monkeypatch.setattr(sigmoid, "siglip_loss", wrong)
    row = sigmoid.check(sigmoid.Case(FLOAT32, 33, 150, 24), CPU)
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
