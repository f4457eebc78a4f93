"""Error and time of implementations of a loss.

Implementations are checked before they are timed, and those compared are timed in the same rounds.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from simclr_ext.bench.baselines import Loss
from simclr_ext.bench.memory import is_out_of_memory

CHECKED = 512  # the largest N at which results are checked: the reference is dense, in float64
SHORTEST = 5e-3  # seconds; shorter calls are timed several at a time
LONG = 0.1  # seconds; longer calls need no warm-up: filling the caches takes little of their time
# Seconds of untimed calls before the timed ones. The threads of the previous call spin for some
# milliseconds after its end, which may double the time of a short call on few processors.
SETTLING = 0.02
ROUNDS = 15
FEWEST_ROUNDS = 3
QUIET = 0.03  # share of the processors' time that other processes may take in a round
# Relative, of the loss and of each gradient, against float64: large enough for rounding, too small
# for another loss.
LARGEST_ERROR = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median over the rounds, and their spread.

    Attributes:
        median: Median.
        low: First quartile; the minimum if there are fewer than ten rounds.
        high: Third quartile; the maximum if there are fewer than ten rounds.
        rounds: Number of samples.
        foreign: Share of the processors' time that other processes took meanwhile, [0, 1].
    """

    median: float
    low: float
    high: float
    rounds: int
    foreign: float


def views(
    n: int, d: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Return two random views [n, d] that require gradients, the same ones every time.

    They are independent: with matching views, loss and gradients at small T are near zero, so a
    relative error would be meaningless.
    """
    generator = torch.Generator().manual_seed(0)
    z0, z1 = (z.to(device, dtype) for z in torch.randn(2, n, d, generator=generator))
    return z0.requires_grad_(), z1.requires_grad_()


def forward(loss: Loss, inputs: tuple[Tensor, Tensor], temperature: float) -> None:
    """Compute the loss alone."""
    with torch.no_grad():
        loss(*inputs, temperature)


def forward_backward(loss: Loss, inputs: tuple[Tensor, Tensor], temperature: float) -> None:
    """Compute the loss and the gradients of both views, as a training step does."""
    for z in inputs:
        z.grad = None
    loss(*inputs, temperature).backward()  # type: ignore[no-untyped-call]


def check(
    loss: Loss,
    truth: Loss,
    inputs: tuple[Tensor, Tensor],
    temperature: float,
    tolerance: float | None = None,
) -> float:
    """Compare a loss and its gradients with a reference in float64.

    Args:
        loss: The loss to check.
        truth: The reference.
        inputs: Views [N, D], which require gradients.
        temperature: T > 0.
        tolerance: Largest allowed relative error; None: that of the views' dtype.

    Returns:
        The largest relative error of the loss and of the gradients of both views.

    Raises:
        ValueError: If it exceeds the tolerance.
    """
    z0, z1 = (z.detach().double().requires_grad_() for z in inputs)
    value, exact = loss(*inputs, temperature), truth(z0, z1, temperature)
    pairs = [(value, exact)]
    pairs += zip(
        torch.autograd.grad(value, inputs), torch.autograd.grad(exact, (z0, z1)), strict=True
    )
    errors: list[float] = [((a.double() - b).norm() / b.norm()).item() for a, b in pairs]
    if tolerance is None:
        tolerance = LARGEST_ERROR[inputs[0].dtype]
    if not all(error < tolerance for error in errors):  # NaN fails
        n, d = inputs[0].shape
        worst = ", ".join(f"{error:.1e}" for error in errors)
        raise ValueError(f"relative errors {worst} of loss and gradients at N = {n}, D = {d}")
    return max(errors)


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    *,
    seconds: float | None = None,
    finish: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Time all calls in turn, round after round, so that a disturbance affects all of them.

    Each round begins with a different call.

    Rounds during which other processes were busy are repeated, at most as often as there are
    rounds; the quietest count.

    Args:
        calls: What to time; each is warmed up first. One that runs out of memory is left out.
        rounds: Samples of each.
        seconds: Take fewer rounds, but at least three, to stay within about this time.
        finish: Waits for what a call started, as a GPU needs.

    Returns:
        The timing of each call.
    """
    once: dict[str, float] = {}
    for name, call in calls.items():
        try:
            for _ in range(3):  # the last one counts
                start = time.perf_counter()
                call()
                finish()
                once[name] = time.perf_counter() - start
                if once[name] > 10 * LONG:
                    break
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            once.pop(name, None)
    calls = {name: calls[name] for name in once}
    repeats = {name: max(1, round(SHORTEST / once[name])) for name in calls}
    if not calls:
        return {}
    if seconds is not None:
        each = sum(_sample_seconds(once[name], repeats[name]) for name in calls)
        rounds = max(FEWEST_ROUNDS, min(rounds, int(seconds / each)))

    samples: list[dict[str, float]] = []
    foreign: list[float] = []
    while len(samples) < 2 * rounds and sum(share <= QUIET for share in foreign) < rounds:
        load = _Load()
        first = len(samples) % len(calls)  # vary the predecessors, whose threads may still spin
        order = [*calls][first:] + [*calls][:first]
        samples.append({n: _sample(calls[n], repeats[n], once[n], finish) for n in order})
        foreign.append(load.foreign_share())
    quietest = sorted(range(len(samples)), key=lambda index: foreign[index])[:rounds]
    share = statistics.mean(foreign[index] for index in quietest)
    return {name: _timing([samples[index][name] for index in quietest], share) for name in calls}


def _sample(
    call: Callable[[], object], repeats: int, expected: float, finish: Callable[[], object]
) -> float:
    if expected < LONG:
        settled = time.perf_counter() + SETTLING
        call()  # untimed: fill the caches with this call's data
        finish()
        while time.perf_counter() < settled:
            call()
            finish()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    finish()
    return (time.perf_counter() - start) / repeats


def _sample_seconds(once: float, repeats: int) -> float:
    return once * repeats + (max(once, SETTLING) if once < LONG else 0)


def _timing(values: list[float], foreign: float) -> Timing:
    low, median, high = min(values), statistics.median(values), max(values)
    if len(values) >= 10:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, low, high, len(values), foreign)


class _Load:
    """Measures the processor time that other processes take from now on."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.busy, self.own = _busy_seconds(), _own_seconds()

    def foreign_share(self) -> float:
        """Return their share of all processors' time, 0 if the system does not report it."""
        elapsed = (time.perf_counter() - self.start) * (os.cpu_count() or 1)
        foreign = (_busy_seconds() - self.busy) - (_own_seconds() - self.own)
        tick = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.0
        # Ticks are coarse: a few of them count as 0.
        return foreign / elapsed if foreign > 3 * tick else 0.0


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy_seconds() -> float:
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, path.read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
