"""Checks that find planted faults, and say in which kernel and element they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import check, operators, sentences, staged
from benchmarks.gpu.cases import Case, budget, of_table
from benchmarks.gpu.faults import where
from benchmarks.gpu.precision import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, TF32
from benchmarks.gpu.sizes import Table
from simclr_ext import nt_xent_loss

CPU = torch.device("cpu")
CASE = Case("fused", FLOAT32, 150, 24)


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16, FLOAT16], ids=lambda p: p.name)
@pytest.mark.parametrize("backend", ["fused", "tiled"])
def test_right_kernels_pass(backend: str, precision: Any) -> None:
    for case in of_table(Table((33,), (2, 40), (0.01, 0.5)), backend, precision.name):
        row = check.check(case, CPU)
        assert row["status"] == "ok", sentences.of_job(row)
        assert 0 < max(row["budget_used"].values()) <= 1
    for temperature in (0.01, 0.5):
        row = staged.check_uninitialized(Case("fused", precision, 33, 24, temperature), CPU)
        assert row["status"] == "ok", sentences.of_job(row)
        assert len(row["budget_used"]) == 9


def test_float64_is_held_to_float64() -> None:
    row = check.check(Case("tiled", FLOAT64, 33, 24), CPU)
    assert row["status"] == "ok"
    exact = torch.ones(66, dtype=torch.float64)
    assert budget(Case("tiled", FLOAT64, 33, 24), "loss", CASE.views(CPU), exact, exact) < 1e-11


@pytest.mark.parametrize("fault", ["value", "gradient", "bits", "error"])
def test_wrong_losses_fail(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def wrong(z0: Tensor, z1: Tensor, *args: Any, backend: str, **options: Any) -> Tensor:
        nonlocal calls
        if backend != "tiled":
            return nt_xent_loss(z0, z1, *args, backend=backend, **options)
        calls += 1
        if fault == "error":
            raise RuntimeError("planted")
        if fault == "gradient":
            z0 = z0.detach() + (z0 - z0.detach()) * 1.5
        loss = nt_xent_loss(z0, z1, *args, backend=backend, **options)
        if fault == "value":
            return loss * 1.01
        # A last bit that differs from call to call is within every budget.
        return loss * (1 + calls % 2 * 2**-23) if fault == "bits" else loss

    monkeypatch.setattr(check, "nt_xent_loss", wrong)
    case = dataclasses.replace(CASE, backend="tiled")
    if fault == "error":
        with pytest.raises(RuntimeError, match="planted"):
            check.check(case, CPU)
        return
    row = check.check(case, CPU)
    assert row["status"] == "failed"
    quantities = [found["quantity"] for found in row["faults"]]
    expected = {"value": "loss", "gradient": "grad_z0", "bits": "loss"}
    assert quantities[0] == expected[fault]
    if fault == "bits":
        assert row["faults"][0]["problem"] == "other bits in a second run"


# What a kernel gets wrong, the quantity that shows it, and the kernel that is named.
PLANTED = {
    "prepare": ("rows", "prepare_kernel"),
    "sums": ("lse", "forward_kernel (sums) or finish_kernel"),
    "positives": ("positive", "forward_kernel (positives) or finish_kernel"),
    "backward": ("grad_z1 from exact inputs", "backward_kernel, gradient_kernel or terms_kernel"),
}
STAGES = {"prepare": "prepare", "forward": "forward", "finish": "forward", "backward": "backward"}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_kernel_and_the_first_wrong_element_are_named(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantity, kernel = PLANTED[fault]
    call = operators._call

    def wrong(name: str, given: dict[str, Any]) -> tuple[Tensor, ...]:
        if name == "nt_xent_backward":
            grad_z, grad_temperature = call(name, given)
            grad_z[261] += 0.5 * (fault == "backward")  # row 111 of the second view
            return grad_z, grad_temperature
        if fault == "prepare":  # as if a row had been read wrongly: all that follows is of that row
            given = given | {"z0": given["z0"].clone()}
            given["z0"][133] *= -1
        loss, lse, z, inv_norm = call(name, given)
        lse[5::128] += 0.5 * (fault == "sums")
        loss[5::128] += 0.5 * (fault in ("sums", "positives"))
        return loss, lse, z, inv_norm

    monkeypatch.setattr(operators, "_call", wrong)
    row = staged.check(CASE, CPU)
    assert row["status"] == "failed"
    found = {f["quantity"]: f for f in row["faults"]}[quantity]
    assert found["kernel"] == kernel
    assert found["configuration"] == "float32, D class 32, shared shift"
    first = {"prepare": 133, "backward": 111}.get(fault, 5)
    assert found["first"]["index"][0] == first
    assert found["rows mod 128"] == [first % 128]
    if fault != "prepare":
        difference = abs(found["first"]["found"] - found["first"]["expected"])
        assert difference == pytest.approx(0.5, abs=1e-5)
    # No fault hides another stage, and none is blamed on it.
    stages = {STAGES[f["kernel"].partition("_")[0]] for f in row["faults"]}
    assert stages == {STAGES[kernel.partition("_")[0]]}
    assert kernel in sentences.of_fault(found)
    assert f"first wrong {found['first']['index']}: expected" in sentences.of_fault(found)


def test_not_a_number_is_wrong() -> None:
    exact = torch.zeros(300, 130, dtype=torch.float64)
    value = exact.clone()
    value[260, 70] = torch.nan
    value[132, 6] = 7
    found = where(value, exact, budget=1e-3)
    assert found["wrong"] == 2
    assert found["first"] == {"index": [132, 6], "expected": 0.0, "found": 7.0}
    assert found["rows mod 128"] == [4]
    assert found["columns mod 64"] == [6]


def test_one_pair_has_no_budget_and_short_rows_that_of_their_eps() -> None:
    exact = torch.zeros(1, 24, dtype=torch.float64)
    one = Case("fused", FLOAT32, 1, 24)
    assert budget(one, "grad_z0", one.views(CPU), exact, exact) == 0.0
    assert Case("fused", FLOAT16, 9, 24).eps == torch.finfo(torch.float16).tiny
    zeros = Case("fused", FLOAT32, 50, 14, kind="zero row")
    views = zeros.views(CPU)
    exact = torch.zeros(50, 14, dtype=torch.float64)
    allowed = budget(zeros, "grad_z0", views, exact, exact)
    # One row of zeros, divided by eps = 1e-3: 8 roundings of 1 / eps / T / sqrt(2N).
    epsilon = FLOAT32.result + FLOAT32.product / 0.5
    assert allowed == pytest.approx(8 * epsilon / 1e-3 / 0.5 / 10)


@pytest.mark.parametrize("precision", [FLOAT32, TF32, BFLOAT16, FLOAT16], ids=lambda p: p.name)
def test_stored_rows_are_those_of_the_cuda_kernels(precision: Any) -> None:
    x = (torch.randn(20, 9) * torch.logspace(-2, 2, 20)[:, None]).to(precision.dtype)
    inv_norm = (1 / x.double().norm(dim=1)).float()
    z = operators.stored_rows(x, inv_norm, precision.mode)
    assert z.dtype == x.dtype
    assert z.stride(0) * z.element_size() % 16 == 0
    assert not z[:, 9:].any()
    factors = operators.factors(inv_norm)
    assert isinstance(factors, Tensor)
    assert bool(((factors >= 1) & (factors < 2)).all())
    unit = x.double() * inv_norm.double()[:, None]
    error = (z[:, :9].double() * factors - unit).abs().max().item()
    assert error <= (2**-11 if precision is TF32 else 2**-24 if precision is FLOAT16 else 0)
    if precision is TF32:
        assert not (z.view(torch.int32) & 0x1FFF).any()


def test_exact_inputs_are_what_the_forward_pass_saves() -> None:
    views = CASE.views(CPU)
    saved = operators.forward(*views, CASE.held, eps=CASE.eps)
    (loss, lse), _ = staged.dense_gradients(CASE, views, torch.float64)
    exact = operators.saved_exactly(CASE, views, loss, lse)
    for name, value in vars(exact).items():
        found = getattr(saved, name)
        assert value.dtype == found.dtype
        assert value.shape == found.shape
        assert torch.allclose(value, found, atol=1e-5)
