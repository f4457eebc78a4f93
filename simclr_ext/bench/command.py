"""`simclr-ext bench`: which backend is the fastest for a shape, on this machine."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from simclr_ext._errors import BackendUnavailableError
from simclr_ext.backends.selection import select_backend
from simclr_ext.bench import machine
from simclr_ext.bench.baselines import Loss, compiled, eager
from simclr_ext.bench.config import BenchConfig
from simclr_ext.bench.machine import PASSES
from simclr_ext.bench.measure import (
    CHECKED,
    Timing,
    check,
    forward,
    forward_backward,
    interleaved,
    views,
)
from simclr_ext.bench.memory import OUT_OF_MEMORY, allowance, attempt, limited, peak
from simclr_ext.losses import nt_xent_loss
from simclr_ext.options.checks import check_device
from simclr_ext.options.threads import threads

BACKENDS: dict[str, Loss] = {
    name: functools.partial(nt_xent_loss, backend=name) for name in ("fused", "tiled")
}
BASELINES: dict[str, Loss] = {"eager": eager, "torch.compile": compiled}


@dataclass(frozen=True)
class Result:
    """One implementation at one shape.

    Attributes:
        name: Its name; a backend's is what `nt_xent_loss` takes.
        status: "ok", or why there is no timing.
        timing: Seconds per call.
        peak: Additional bytes that a call allocates; None if the system does not report it.
    """

    name: str
    status: str
    timing: Timing | None = None
    peak: int | None = None


@dataclass(frozen=True)
class BenchResult:
    """The result of `simclr-ext bench`; its text is a table and a recommendation.

    Attributes:
        config: The measured shape.
        results: One per implementation, in a fixed order.
        floor: Lower bound of the seconds on this machine; None if not known.
        automatic: The backend that `backend="auto"` selects.
        threads: CPU threads of torch.
    """

    config: BenchConfig
    results: tuple[Result, ...]
    floor: float | None
    automatic: str
    threads: int

    @property
    def best(self) -> Result | None:
        """Return the fastest implementation, None if none ran."""
        timed = [result for result in self.results if result.timing is not None]
        return min(timed, key=_median, default=None)

    @property
    def recommendation(self) -> str:
        """Return the recommendation, one sentence or two."""
        best = self.best
        if best is None:
            return "None of these can compute the loss of this shape here."
        usable = [r for r in self.results if r.name in BACKENDS and r.timing is not None]
        choice = min(usable, key=_median, default=None)
        if choice is None:
            return f"No backend runs here; the fastest is {best.name}."
        call = f'nt_xent_loss(z0, z1, backend="{choice.name}")'
        if choice.name == self.automatic:
            call = f"nt_xent_loss(z0, z1), which picks {choice.name}"
        if best is choice:
            return f"Use {call}."
        slower = _median(choice) / _median(best)
        return (
            f"The fastest is {best.name}. Of the backends use {call}: "
            f"{slower:.2f} times as long, without the 2N x 2N matrix."
        )

    def __str__(self) -> str:
        config, best = self.config, self.best
        noun = "threads" if self.threads > 1 else "thread"
        title = (
            f"N = {config.n:,}, D = {config.d}, {config.dtype}, T = {config.temperature:g}, "
            f"{config.device}, {self.threads} {noun}, {PASSES[config.backward]}"
        )
        lines = [f"{'':14}{'ms':>10}{'spread':>22}{'/ best':>8}{'/ limit':>9}{'MiB':>9}"]
        lines += [_line(result, best, self.floor) for result in self.results]
        if self.floor is not None:
            lines.append(
                f"limit: {1e3 * self.floor:.3g} ms, the longest of the loss's FLOP, exponentials "
                "and traffic at this machine's rates"
            )
        timed = [result.timing for result in self.results if result.timing is not None]
        if timed and timed[0].foreign > 0.05:
            lines.append(
                f"Other processes took {timed[0].foreign:.0%} of the processors: measure again "
                "when the machine is idle."
            )
        return "\n".join([title, "", *lines, "", self.recommendation])


def _median(result: Result) -> float:
    if result.timing is None:
        raise ValueError(f"{result.name} was not timed: {result.status}")
    return result.timing.median


def _line(result: Result, best: Result | None, floor: float | None) -> str:
    if result.timing is None or best is None:
        return f"{result.name:14}{result.status}"
    timing = result.timing
    spread = f"[{1e3 * timing.low:.3g}, {1e3 * timing.high:.3g}]"
    limit = "" if floor is None else f"{timing.median / floor:.2f}"
    mib = "" if result.peak is None else f"{result.peak / 2**20:,.0f}"
    ratio = f"{timing.median / _median(best):.2f}"
    return f"{result.name:14}{1e3 * timing.median:>10.3g}{spread:>22}{ratio:>8}{limit:>9}{mib:>9}"


def run(config: BenchConfig) -> BenchResult:
    """Measure with the requested number of threads; see `simclr_ext.bench.run_bench`."""
    check_device(config.device)
    with threads(config.threads):
        return _run(config)


def _run(config: BenchConfig) -> BenchResult:
    device = torch.device(config.device)
    on_cpu = device.type == "cpu"
    inputs = views(config.n, config.d, getattr(torch, config.dtype), device)
    step = forward_backward if config.backward else forward
    statuses: dict[str, str] = {}
    calls: dict[str, Callable[[], object]] = {}
    peaks: dict[str, int | None] = {}
    with limited(allowance()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, loss in (BACKENDS | BASELINES).items():
            call = functools.partial(step, loss, inputs, config.temperature)
            statuses[name] = _obstacle(name, loss, config, device) or attempt(call)  # compiles
            if statuses[name] == "ok":
                calls[name] = call
                peaks[name] = _peak(call, inputs, device)
        probes = machine.probes() if on_cpu else {}
        finish = (lambda: None) if on_cpu else (lambda: torch.cuda.synchronize(device))
        timings = interleaved(calls | probes, seconds=config.seconds, finish=finish)
    results = []
    for name, status in statuses.items():
        if status == "ok" and name not in timings:  # it fits alone, but not beside the others
            status = OUT_OF_MEMORY
        results.append(Result(name, status, timings.get(name), peaks.get(name)))
    floor = None
    if on_cpu:
        what, itemsize = PASSES[config.backward], inputs[0].element_size()
        floor = machine.floor(config.n, config.d, what, itemsize, machine.rates(timings))
    automatic = select_backend(inputs[0]).name
    return BenchResult(config, tuple(results), floor, automatic, torch.get_num_threads())


def _obstacle(name: str, loss: Loss, config: BenchConfig, device: torch.device) -> str | None:
    """Return why an implementation is not timed, None if it can be."""
    dtype = getattr(torch, config.dtype)
    if name in BACKENDS:
        try:
            select_backend(torch.empty(1, config.d, dtype=dtype, device=device), name)  # type: ignore[arg-type]
        except BackendUnavailableError as error:
            return f"unavailable: {str(error).partition(chr(10))[0]}"
    inputs = views(min(config.n, CHECKED), config.d, dtype, device)
    truth = functools.partial(nt_xent_loss, backend="reference")
    status = attempt(functools.partial(check, loss, truth, inputs, config.temperature))
    return None if status == "ok" else status


def _peak(
    call: Callable[[], object], inputs: tuple[torch.Tensor, ...], device: torch.device
) -> int | None:
    for z in inputs:
        z.grad = None
    try:
        return peak(call, device)
    except OSError:
        return None
