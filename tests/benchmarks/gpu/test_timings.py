"""Timings of implementations in turn, on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import contestants, own, repeats, timing
from benchmarks.gpu.job import Context, Skipped
from benchmarks.gpu.precision import FLOAT32
from benchmarks.gpu.worker import result_of
from benchmarks.loss import peers
from simclr_ext.bench.baselines import eager

CPU = torch.device("cpu")


def test_operators_are_timed_beside_eager() -> None:
    row = own.measure(FLOAT32, 20, 8, CPU, 3)
    beside = own.measure_beside(FLOAT32, 20, 8, CPU, 3, ("eager", "triton"))["timings"]
    for timed in (*row["timings"].values(), beside["both"], beside["eager"]):
        assert 0 < timed["low"] <= timed["ms"] <= timed["high"]
    assert list(row["timings"]) == ["forward", "backward", "both"]
    reason = "Triton's kernels are for a GPU"
    assert beside["triton"] == {"status": "skipped", "reason": reason}
    # (2N)^2 D: half of the square of S, then S and the weights' product; 3xTF32.
    work = 40**2 * 8
    rates = {name: row["tflops"][name] * row["timings"][name]["ms"] * 1e9 for name in row["tflops"]}
    assert rates == {"forward": pytest.approx(3 * work), "backward": pytest.approx(12 * work)}


def test_what_does_not_run_beside_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: Any) -> dict[str, Any]:
        raise RuntimeError("planted")

    monkeypatch.setattr(own, "_other_calls", no_compiler)
    timings = own.measure_beside(FLOAT32, 20, 8, CPU, 3, ("eager",))["timings"]
    assert timings["eager"] == {"status": "failed", "error": "RuntimeError: planted"}
    assert timings["both"]["ms"] > 0


def test_out_of_memory_is_a_result() -> None:
    def huge() -> None:
        raise torch.OutOfMemoryError("planted")

    found = timing.interleaved({"huge": huge, "small": lambda: None}, CPU, 3)
    assert found["huge"] == {"status": "out of memory"}
    assert found["small"]["ms"] > 0


def peers_of(monkeypatch: pytest.MonkeyPatch, *others: Any) -> None:
    monkeypatch.setattr(peers, "PEERS", (*peers.PEERS[:2], *others))


def test_peers_are_timed_or_say_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def twice(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        return 2 * eager(z0, z1, temperature)

    def absent() -> None:
        raise ModuleNotFoundError("No module named 'no_such_module'")

    peer = peers.Peer
    peers_of(
        monkeypatch,
        peer("right", lambda: eager),
        peer("wrong", lambda: twice),
        peer("absent", absent, package="no-such-package"),
    )
    jobs = contestants.jobs(Context("cpu", tmp_path), (), "float32", (16,), 8, 3, 30.0)
    right, wrong, missing = (result_of(job, "peers") for job in jobs)
    assert right["status"] == "ok"
    assert set(right["timings"]) == {"right", "fused"}
    assert wrong["status"] == "skipped"
    assert "relative errors 1.0e+00" in wrong["reason"]
    assert missing["status"] == "skipped"
    assert "No module named 'no_such_module'; pip install no-such-package" in missing["reason"]


def test_other_bits_in_a_repetition_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert repeats.repeat(FLOAT32, 20, 8, CPU, 3)["status"] == "ok"
    call, turns = repeats.operators.backward, []

    def wrong(*arguments: Any) -> tuple[Tensor, Tensor]:
        grad_z, grad_temperature = call(*arguments)
        turns.append(None)
        if len(turns) == 2:
            grad_z[7, 3] *= 1 + 2**-22
        return grad_z, grad_temperature

    monkeypatch.setattr(repeats, "operators", SimpleNamespace(**vars(repeats.operators)))
    monkeypatch.setattr(repeats.operators, "backward", wrong)
    row = repeats.repeat(FLOAT32, 20, 8, CPU, 3)
    assert row["status"] == "failed"
    assert row["faults"] == [{"grad_z": {"turn": 1, "elements": 1, "first": [7, 3]}}]


def test_whatever_a_job_raises_is_its_status() -> None:
    def status(error: Exception) -> str:
        def run() -> dict[str, Any]:
            raise error

        row = result_of(timing_job(run), "step")
        return str(row["status"])

    def timing_job(run: Any) -> Any:
        return SimpleNamespace(key="job", run=run)

    assert status(Skipped("reason")) == "skipped"
    assert status(torch.OutOfMemoryError("planted")) == "out of memory"
    assert status(RuntimeError("planted")) == "failed"


class FakeGraph:
    """Simulates a CUDA graph: a replay repeats the calls that were made during the capture."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace what timing.py uses of torch.cuda; a call takes `seconds` of an imaginary GPU."""
    state = SimpleNamespace(ms=0.0, per_call=1.0, graphs=[], captured=0, error=None)

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = state.ms + sum(g.replays * g.calls * state.per_call for g in state.graphs)

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, other: Event) -> float:
            return float(other.at - self.at)

    @contextlib.contextmanager
    def capturing(graph: FakeGraph) -> Iterator[None]:
        if state.error is not None:
            raise state.error
        before = state.calls
        yield
        graph.calls = state.calls - before
        state.ms -= graph.calls * state.per_call  # captured calls do not run
        state.graphs.append(graph)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "Event": Event,
        "Stream": lambda: stream,
        "stream": lambda s: contextlib.nullcontext(),
        "current_stream": lambda: stream,
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "CUDAGraph": FakeGraph,
        "graph": capturing,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    state.calls = 0
    return state


@pytest.mark.parametrize(
    ("per_call", "error", "method"),
    [
        (0.05, None, "graph"),
        (1.0, None, "graph"),
        (20.0, None, "calls"),
        (0.05, RuntimeError("planted\nmore"), "calls, not a graph: planted"),
    ],
)
def test_short_calls_are_replayed_as_graphs(
    per_call: float, error: Exception | None, method: str, fake_cuda: SimpleNamespace
) -> None:
    fake_cuda.per_call, fake_cuda.error = per_call, error

    def call() -> None:
        fake_cuda.calls += 1
        fake_cuda.ms += per_call

    def fails() -> None:
        raise RuntimeError("planted")

    cuda = torch.device("cuda")
    found = timing.interleaved({"call": call, "fails": fails}, cuda, 3)
    assert found["call"]["ms"] == pytest.approx(per_call)
    assert found["call"]["method"] == method
    assert found["fails"] == {"status": "failed", "error": "RuntimeError: planted"}
    if method == "graph":
        assert fake_cuda.graphs[-1].calls == (10 if per_call < 0.3 else 1)
