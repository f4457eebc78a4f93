"""lightly's losses and their adapters, with lightly installed."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_ext.compat import lightly as ours
from tests.compat_losses.helpers import assert_same_state, assert_same_training, batches, dtypes
from tests.distributed.processes import LARGEST, Processes

theirs = pytest.importorskip("lightly.loss", reason="lightly is not installed")


def both(name: str, dtype: torch.dtype, **options: Any) -> tuple[Any, Any]:
    """Return lightly's module and ours, made with the same random numbers."""
    modules = []
    for package in (theirs, ours):
        torch.manual_seed(5)
        modules.append(getattr(package, name)(**options).to(dtype))
    return modules[0], modules[1]


@dtypes
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_nt_xent(n: int, temperature: float, dtype: torch.dtype) -> None:
    their, our = both("NTXentLoss", dtype, temperature=temperature, gather_distributed=True)
    assert_same_training(their, our, batches(n, 2, dtype))
    # Without a bank the values of lightly's buffers are whatever was in memory.
    assert dict(our.named_buffers()).keys() == dict(their.named_buffers()).keys()
    assert our.state_dict() == their.state_dict() == {}


@dtypes
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("size", [1, 5, 8, 13, 24, 25, 500])
def test_memory_bank(size: int, temperature: float, dtype: torch.dtype) -> None:
    options = {"temperature": temperature, "memory_bank_size": (size, 6)}
    their, our = both("NTXentLoss", dtype, **options)
    assert_same_state(their, our)
    assert_same_training(their, our, batches(8, 2, dtype))
    assert_same_state(their, our)  # below the size, at it, over it, and around


def test_a_bank_is_only_written_if_the_first_view_needs_a_gradient() -> None:
    their, our = both("NTXentLoss", torch.float32, memory_bank_size=(10, 6))
    z0, z1 = torch.randn(4, 6), torch.randn(4, 6, requires_grad=True)
    before = our.memory_bank.bank.clone()
    torch.testing.assert_close(our(z0, z1), their(z0, z1))
    assert torch.equal(our.memory_bank.bank, before)
    assert_same_state(their, our)


def test_the_bank_is_not_normalized_again() -> None:
    their, our = both("NTXentLoss", torch.float64, memory_bank_size=(10, 6))
    for module in (their, our):
        module.memory_bank.bank.mul_(1.7)
    assert_same_training(their, our, batches(4, 2, torch.float64)[:1])


def test_a_bank_without_a_width_takes_that_of_the_first_batch() -> None:
    our = ours.NTXentLoss(0.2, memory_bank_size=10)
    _, known = both("NTXentLoss", torch.float32, temperature=0.2, memory_bank_size=(10, 6))
    torch.manual_seed(5)
    z0, z1 = torch.randn(4, 6), torch.randn(4, 6)
    torch.manual_seed(5)
    assert torch.equal(our(z0, z1), known(z0, z1))
    assert our.memory_bank.bank.shape == (10, 6)


@dtypes
@pytest.mark.parametrize("n", [2, 33])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DCLLoss", {"temperature": 0.2}),
        ("DCLWLoss", {"temperature": 0.2}),
        ("DCLWLoss", {"temperature": 0.07, "sigma": 0.2, "gather_distributed": True}),
    ],
)
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_dcl(name: str, options: dict[str, float], n: int, dtype: torch.dtype) -> None:
    assert_same_training(*both(name, dtype, **options), batches(n, 2, dtype))


def distance(out0: Tensor, out1: Tensor) -> Tensor:
    """Return weights that are not symmetric, and through which gradients flow."""
    return (out0 - 0.5 * out1).square().sum(1)


@dtypes
def test_dcl_with_weights(dtype: torch.dtype) -> None:
    their, our = both("DCLLoss", dtype, temperature=0.3, weight_fn=distance)
    assert_same_training(their, our, batches(9, 2, dtype))


@pytest.mark.parametrize("name", ["NTXentLoss", "DCLLoss", "DCLWLoss"])
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_defaults(name: str) -> None:
    their, our = both(name, torch.float64)
    z0, z1 = torch.randn(2, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(our(out0=z0, out1=z1), their(out0=z0, out1=z1))


def on_rank(rank: int, _: object, package: str, name: str, n: int) -> list[Tensor]:
    """Return the value and the gradients of a rank's own views."""
    module = importlib.import_module(package)
    generator = torch.Generator().manual_seed(rank)
    z0, z1 = torch.randn(2, n, 6, generator=generator, dtype=torch.float64)
    z0.requires_grad_()
    z1.requires_grad_()
    loss = getattr(module, name)(0.2, gather_distributed=True)(z0, z1)
    return [loss.detach(), *torch.autograd.grad(loss, [z0, z1])]


def test_several_processes(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    try:
        for name, n in itertools.product(("NTXentLoss", "DCLLoss", "DCLWLoss"), (1, 7)):
            expected = processes.run(on_rank, LARGEST, "lightly.loss", name, n)
            found = processes.run(on_rank, LARGEST, "simclr_ext.compat.lightly", name, n)
            assert len({values[0].item() for values in expected}) == LARGEST
            torch.testing.assert_close(found, expected)
    finally:
        processes.close()


@pytest.mark.parametrize("name", ["NTXentLoss", "DCLLoss", "DCLWLoss"])
def test_errors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = getattr(ours, name)
    with pytest.raises(ValueError, match="temperature must be positive"):
        loss(-1.0)
    monkeypatch.setattr("simclr_ext.compat.lightly.processes", lambda: 2)
    z = torch.randn(4, 3)
    assert loss()(z, z).isfinite()
    if name == "NTXentLoss":
        gathering = loss(gather_distributed=True, memory_bank_size=(5, 3))
        with pytest.raises(NotImplementedError, match=r"gather_distributed=True .* 2 processes"):
            gathering(z, z)
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"needs torch\.distributed"):
        loss(gather_distributed=True)


@pytest.mark.parametrize("size", [-1, (-1, 4), (4, -1), (4, 2, 3), ()])
def test_sizes_of_banks(size: Any) -> None:
    with pytest.raises(ValueError, match="memory_bank_size must be"):
        ours.NTXentLoss(memory_bank_size=size)
