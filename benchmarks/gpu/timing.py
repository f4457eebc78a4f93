"""Times calls on a GPU by replaying CUDA graphs of them, and on the CPU by the clock.

For short kernels, a single call between two events measures Python; a replay does not.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.gpu.job import Row
from simclr_ext.bench.measure import interleaved as interleaved_by_clock
from simclr_ext.bench.memory import is_out_of_memory

Call = Callable[[], object]
_SAMPLE = 5e-3  # seconds; shorter calls are replayed several times between two events
_SHORT = 3e-4  # seconds; a graph has several calls if they are shorter
_IN_GRAPH = 10
_LONG = 1e-2  # seconds; of longer calls Python takes no part, and a graph would take their memory


@dataclass(frozen=True)
class Replay:
    """How a call is repeated.

    Attributes:
        run: Runs the calls.
        calls: Number of calls.
        method: "graph", or "calls", with the reason if no graph could be captured.
    """

    run: Call
    calls: int
    method: str


def interleaved(calls: Mapping[str, Call], device: torch.device, rounds: int) -> dict[str, Row]:
    """Time all calls in turn, round after round.

    Returns:
        For each call its median in ms, the quartiles, and the method; or the status "out of memory"
        or "failed" with the error.
    """
    if device.type != "cuda":
        timings = interleaved_by_clock(calls, rounds)
        return {name: {"status": "out of memory"} for name in calls if name not in timings} | {
            name: {
                "ms": 1e3 * t.median,
                "low": 1e3 * t.low,
                "high": 1e3 * t.high,
                "method": "clock",
            }
            for name, t in timings.items()
        }
    replays: dict[str, Replay] = {}
    rows: dict[str, Row] = {}
    for name, call in calls.items():
        try:
            replays[name] = replay_of(call)
        except Exception as error:  # a call that fails is a result too
            torch.cuda.empty_cache()
            status = "out of memory" if is_out_of_memory(error) else "failed"
            rows[name] = {"status": status, "error": f"{type(error).__name__}: {error}"[:500]}
    samples: dict[str, list[float]] = {name: [] for name in replays}
    repeats = {name: max(1, math.ceil(_SAMPLE / seconds(r.run, 1))) for name, r in replays.items()}
    for _ in range(rounds):
        for name, replay in replays.items():
            replay.run()  # untimed: fill the caches with this call's data
            samples[name].append(1e3 * seconds(replay.run, repeats[name]) / replay.calls)
    for name, replay in replays.items():
        rows[name] = _row(samples[name], replay.method)
    return rows


def _row(samples: list[float], method: str) -> Row:
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return {"ms": median, "low": low, "high": high, "method": method}


def seconds(call: Call, repeats: int) -> float:
    """Return the GPU's seconds for one of several calls in a row."""
    start, end = _event(), _event()
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return max(float(start.elapsed_time(end)), 1e-6) / 1e3 / repeats


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def replay_of(call: Call) -> Replay:
    """Return a replay of a call: of a CUDA graph, or if it cannot be captured, of calls."""
    for _ in range(3):  # compiles, tunes and allocates; errors are the call's own
        call()
    torch.cuda.synchronize()
    if seconds(call, 1) > _LONG:
        return Replay(call, 1, "calls")
    try:
        run = capture(call, 1)
        if seconds(run, 3) >= _SHORT:
            return Replay(run, 1, "graph")
        return Replay(capture(call, _IN_GRAPH), _IN_GRAPH, "graph")
    except RuntimeError as error:
        torch.cuda.synchronize()
        reason = str(error).partition("\n")[0][:200]
        return Replay(call, 1, f"calls, not a graph: {reason}")


def capture(call: Call, times: int) -> Call:
    """Return a function that replays a graph of several calls."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # a graph has its own memory pool
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            call()
    graph.replay()
    torch.cuda.synchronize()
    return functools.partial(_replay, graph)


def _replay(graph: torch.cuda.CUDAGraph) -> None:
    graph.replay()


def kernels(call: Call, times: int = 3) -> list[Row]:
    """Return name, launches and microseconds of each kernel that a call starts, longest first."""
    from torch.profiler import ProfilerActivity, profile

    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(times):
            call()
        torch.cuda.synchronize()
    rows = [
        {
            "kernel": event.key[:160],
            "launches": event.count / times,
            "us": round(event.self_device_time_total / event.count, 2),
        }
        for event in profiler.key_averages()
        if event.device_type.name == "CUDA"
    ]
    if not rows:
        raise RuntimeError("torch.profiler saw no kernel: is CUPTI there and not in use?")
    return sorted(rows, key=lambda row: -row["us"] * row["launches"])
