"""Time, memory and error of one implementation on one shape."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from simclr_ext import nt_xent_loss

TEMPERATURE = 0.5
SHORTEST = 5e-3  # seconds; shorter calls are timed several at a time
LARGEST_ERROR = 1e-5  # relative, of the loss and of the gradients, against float64


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median over the rounds, and the quartiles as a spread."""

    median: float
    low: float
    high: float


def views(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Return two random views [n, d] that require gradients, the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    z0, z1 = torch.randn(2, n, d, generator=generator)
    return (z0 + z1).requires_grad_(), z1.requires_grad_()


def forward_backward(loss: Callable[..., Tensor], inputs: tuple[Tensor, Tensor]) -> None:
    """Compute the loss and the gradients of both views, as a training step does."""
    for z in inputs:
        z.grad = None
    loss(*inputs, TEMPERATURE).backward()


def check(loss: Callable[..., Tensor], n: int, d: int) -> None:
    """Raise ValueError if the loss or a gradient is wrong: nothing wrong is timed."""
    inputs = views(n, d)
    value = loss(*inputs, TEMPERATURE)
    exact_inputs = [z.detach().double().requires_grad_() for z in inputs]
    exact = nt_xent_loss(*exact_inputs, TEMPERATURE, backend="reference")
    pairs = [(value.detach(), exact.detach())]
    pairs += zip(
        torch.autograd.grad(value, inputs), torch.autograd.grad(exact, exact_inputs), strict=True
    )
    for ours, truth in pairs:
        error = ((ours.double() - truth).norm() / truth.norm()).item()
        if not error < LARGEST_ERROR:
            raise ValueError(f"relative error {error:.1e} at N = {n}, D = {d}")


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time all calls in turn, round after round: what disturbs one disturbs all.

    Args:
        calls: What to time; each is warmed up first.
        rounds: Samples of each.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, round(SHORTEST / (time.perf_counter() - start)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # untimed: the caches are this call's own then, not those of the one before
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            samples[name].append((time.perf_counter() - start) / repeats[name])
    return {name: _timing(values) for name, values in samples.items()}


def _timing(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return Timing(median, low, high)


def extra_memory(peer: str, n: int, d: int, threads: int) -> float:
    """Return the peak of resident memory, in bytes, beyond inputs, outputs and gradients.

    Measured in a process of its own, during its first call at this size.
    """
    result = subprocess.run(
        [sys.executable, __file__, peer, str(n), str(d), str(threads)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(result.stdout.splitlines()[-1]))


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(key))
    return int(line.split()[1]) * 1024


def _measure_memory(peer: str, n: int, d: int, threads: int) -> int:
    from peers import PEERS

    torch.set_num_threads(threads)
    forward_backward(PEERS[peer], views(64, d))  # loads libraries, starts threads
    if peer == "torch.compile":
        forward_backward(PEERS[peer], views(n, d))  # the compiler's memory is not the loss's
    inputs = views(n, d)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    forward_backward(PEERS[peer], inputs)
    gradients = sum(z.grad.nbytes for z in inputs if z.grad is not None)
    return _resident("VmHWM") - before - gradients


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    print(json.dumps(_measure_memory(name, *map(int, numbers))))
