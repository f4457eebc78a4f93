"""The registry: available peers compute what they claim, and others have a reason."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from benchmarks.loss import peers
from benchmarks.loss.peers import Peer, chunked, find, nt_xent, rectangular
from simclr_ext.bench.baselines import Loss, eager
from simclr_ext.bench.measure import check, views

QUICK = [peer for peer in peers.PEERS if peer.name not in ("torch.compile", "cut-cross-entropy")]


@pytest.mark.parametrize("peer", QUICK, ids=lambda peer: peer.name)
@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_each_computes_its_problem(peer: Peer, temperature: float) -> None:
    found, skipped = find([peer])
    if peer.name in skipped:
        pytest.skip(skipped[peer.name])
    loss = found[peer.name][1]
    assert check(loss, peer.truth, views(19, 7), temperature) < 1e-5
    with torch.no_grad():
        value = loss(*views(19, 7), temperature)
        torch.testing.assert_close(value, peer.truth(*views(19, 7), temperature))


@pytest.mark.parametrize("name", ["simclr-ext in JAX", "jax", "optax"])
def test_jax_computes_doubles_in_double(name: str) -> None:
    pytest.importorskip("optax")
    peer, loss = find([peer for peer in peers.PEERS if peer.name == name])[0][name]
    assert check(loss, peer.truth, views(19, 7, torch.float64), 0.5) < 1e-12


def test_the_two_problems_are_not_the_same() -> None:
    with pytest.raises(ValueError, match="relative errors"):
        check(eager, rectangular, views(19, 7), 0.5)


def test_the_rectangular_problem_adds_each_row_itself() -> None:
    """Row i's denominator has exp(1 / T) in addition: its similarity to itself is 1."""
    z0, z1 = views(6, 4, torch.float64)
    t = 0.3
    z = torch.nn.functional.normalize(torch.cat([z0, z1]), dim=1)
    exps = torch.exp(z @ z.T / t)
    positive = torch.cat([(z0n := z[:6]) * (z1n := z[6:]), z1n * z0n]).sum(1) / t
    expected = (exps.sum(1).log() - positive).mean()
    torch.testing.assert_close(rectangular(z0, z1, t), expected)


def test_chunks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "ROWS", 7)  # 38 rows: the last chunk is ragged
    assert check(chunked.chunked, nt_xent, views(19, 7), 0.1) < 1e-5


def test_reasons() -> None:
    def absent() -> Loss:
        importlib.import_module("no_such_module")
        return eager

    def broken() -> Loss:
        raise RuntimeError("no driver\nsecond line")

    chosen = [
        Peer("absent", absent, package="such-package"),
        Peer("broken", broken),
        Peer("cuda only", lambda: eager, devices=("cuda",)),
        Peer("fine", lambda: eager),
    ]
    found, skipped = find(chosen)
    assert list(found) == ["fine"]
    assert skipped == {
        "absent": "skipped: ModuleNotFoundError: No module named 'no_such_module'; "
        "pip install such-package",
        "broken": "skipped: RuntimeError: no driver",
        "cuda only": "skipped: runs on cuda only",
    }


def test_versions() -> None:
    chosen = [
        Peer("a", lambda: eager, package="pytest"),
        Peer("b", lambda: eager, package="absent-"),
    ]
    assert peers.versions([*chosen, *chosen]) == {"pytest": pytest.__version__}


def test_names_are_unique_and_problems_known() -> None:
    names = [peer.name for peer in peers.PEERS]
    assert len(set(names)) == len(names)
    assert {peer.problem for peer in peers.PEERS} == {"NT-Xent", "rectangular"}
    assert peers.PEERS[0].name == peers.OURS


def test_gradients_pass_through_jax() -> None:
    """Operations after the loss, such as a sum with another loss, reach its gradient."""
    pytest.importorskip("optax")
    loss = find([peer for peer in peers.PEERS if peer.name == "jax"])[0]["jax"][1]

    def doubled(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        return 2 * loss(z0, z1, t)

    def twice_the_truth(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        return 2 * nt_xent(z0, z1, t)

    assert check(doubled, twice_the_truth, views(19, 7), 0.5) < 1e-5
