"""The check for GPUs, run on the CPU."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import gpu_check
import peers
from simclr_ext import nt_xent_loss
from simclr_ext.bench.baselines import eager


def absent() -> None:
    importlib.import_module("no_such_module")


OTHERS = (
    peers.Peer("torch.compile", lambda: eager),  # needs no compiler
    peers.Peer("absent", absent, package="no-such-package"),
)


def replace_peers(monkeypatch: pytest.MonkeyPatch, *others: peers.Peer) -> None:
    monkeypatch.setattr(peers, "PEERS", (*peers.PEERS[:3], *others))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module, with our backends, eager and the peers above."""
    replace_peers(monkeypatch, *OTHERS)
    return gpu_check


def run(script: ModuleType, folder: Path) -> tuple[int, dict[str, Any]]:
    out = folder / "results.json"
    plan = script.Plan((3, 33), (40,), (1, 33), (0.01, 0.5), None, (16, 20), (8,), rounds=2)
    code = script.main(["--device", "cpu", "--quick", "--out", str(out), "--sanitizer"], plan)
    assert list(folder.iterdir()) == [out]
    return code, json.loads(out.read_text())


def test_all_is_checked_and_timed(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, results = run(script, tmp_path)
    assert code == 0
    assert results["environment"]["torch"] == torch.__version__
    for backend in ("fused", "tiled"):
        assert results["checks"][backend]["cases"] > 30
        assert results["checks"][backend]["failed"] == []
        assert 0 < results["checks"][backend]["largest_budget_used"] <= 1
    assert results["sanitizer"] == "not run: compute-sanitizer is for CUDA, not for cpu"
    timed = [row for row in results["timings"] if "ms" in row]
    assert len(timed) == 2 * 2 * 4  # precisions, sizes, contestants
    assert all(row["status"] == "ok" and row["ms"] > 0 for row in timed)
    (skipped,) = (row for row in results["timings"] if "n" not in row)
    assert skipped["peer"] == "absent"
    assert "no_such_module" in skipped["status"]

    capsys.readouterr()
    assert script.main(["--table", str(tmp_path / "results.json")]) == 0
    table = capsys.readouterr().out
    assert "| N | D | simclr-ext | simclr-ext tiled | eager | torch.compile |" in table
    assert "- absent: skipped: ModuleNotFoundError: No module named 'no_such_module'; pip" in table


@pytest.mark.parametrize("fault", ["value", "gradient", "bits", "error"])
def test_wrong_results_fail_and_are_not_timed(
    fault: str, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    monkeypatch.setattr(importlib.import_module("gpu_cases"), "nt_xent_loss", wrong)
    code, results = run(script, tmp_path)
    assert code == 1
    assert results["checks"]["fused"]["failed"] == []
    assert results["checks"]["tiled"]["failed"]
    assert {row["peer"] for row in results["timings"] if "ms" in row} == {
        "simclr-ext", "eager", "torch.compile",
    }  # fmt: skip
    (reason,) = (row["status"] for row in results["timings"] if row["peer"] == "simclr-ext tiled")
    assert reason.endswith("checks failed")


def test_out_of_memory_and_a_wrong_peer_are_results(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small_memory(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        if len(z0) == 20:
            raise torch.OutOfMemoryError("planted")
        return eager(z0, z1, temperature)

    def twice(*arguments: Any) -> Tensor:
        return 2 * eager(*arguments)

    others = [peers.Peer("torch.compile", lambda: small_memory), peers.Peer("other", lambda: twice)]
    monkeypatch.setattr(peers, "PEERS", peers.PEERS[:3])
    replace_peers(monkeypatch, *others)
    code, results = run(script, tmp_path)
    assert code == 0
    statuses = {(row["peer"], row["n"]): row["status"] for row in results["timings"]}
    assert statuses["torch.compile", 16] == "ok"
    assert statuses["torch.compile", 20] == "out of memory"
    assert statuses["other", 16].startswith("failed: ValueError: relative errors 1.0e+00")
    assert "| out of memory |" in script.table(results)


def test_cuda_is_refused_where_there_is_none(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        script.main([])
    assert "torch sees no CUDA device" in capsys.readouterr().err
