"""Timing, with a clock that only the calls advance, and checks, with known errors."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.bench import machine, measure
from simclr_ext.bench.baselines import eager
from simclr_ext.bench.machine import PASSES, Rates
from simclr_ext.bench.measure import Timing, check, interleaved, views

TRUTH = functools.partial(nt_xent_loss, backend="reference")


class Clock:
    """Replaces the module `time`: the load of the machine does not affect it."""

    def __init__(self) -> None:
        self.now = 10.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    monkeypatch.setattr(measure, "SETTLING", 0.0)
    return clock


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure._Load, "foreign_share", lambda self: 0.0)


@pytest.mark.usefixtures("quiet")
def test_calls_take_turns(clock: Clock) -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> None:
        order.append(name)
        clock.sleep(seconds)

    calls = {"a": functools.partial(call, "a", 0.011), "b": functools.partial(call, "b", 0.022)}
    timings = interleaved(calls, 4)
    warm = 6
    assert order[:warm] == ["a"] * 3 + ["b"] * 3
    assert order[warm:] == [*"aabb", *"bbaa"] * 2  # untimed, timed; another one first
    for name, seconds in (("a", 0.011), ("b", 0.022)):
        spread = (timings[name].low, timings[name].median, timings[name].high)
        assert spread == pytest.approx((seconds,) * 3)
        assert timings[name].rounds == 4


@pytest.mark.usefixtures("quiet")
def test_a_short_call_is_timed_several_times_at_once_after_a_settling_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SETTLING", 0.01)
    times: list[float] = []

    def call() -> None:
        times.append(clock.now)
        clock.sleep(1e-3)

    assert interleaved({"a": call}, 3)["a"].median == pytest.approx(1e-3)
    settling, timed = 10, 5  # 10 ms, and the 5 ms of a sample
    assert len(times) - 3 == pytest.approx(3 * (settling + timed), abs=3)


@pytest.mark.usefixtures("quiet")
def test_fewer_rounds_in_little_time(clock: Clock) -> None:
    calls = {"a": lambda: clock.sleep(0.01)}
    assert interleaved(calls, 15, seconds=0.11)["a"].rounds == 5  # each with an untimed call
    assert interleaved(calls, 15, seconds=1e-9)["a"].rounds == measure.FEWEST_ROUNDS


def test_the_spread_of_few_rounds_is_their_range() -> None:
    few = measure._timing([4.0, 1.0, 2.0], 0.0)
    assert (few.low, few.median, few.high, few.rounds) == (1.0, 2.0, 4.0, 3)
    many = measure._timing([float(x) for x in range(13)], 0.0)
    assert (many.low, many.median, many.high, many.rounds) == (3.0, 6.0, 9.0, 13)


def test_noisy_rounds_are_repeated(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.5, 0.0, 0.4, 0.0, 0.0, 1.0])
    monkeypatch.setattr(measure._Load, "foreign_share", lambda self: next(shares))
    pauses = iter([0, 0, 0, *(x for pause in (0.03, 0, 0.03, 0, 0) for x in (pause, pause))])
    timing = interleaved({"a": lambda: clock.sleep(next(pauses) + 6e-3)}, 3)["a"]
    assert (timing.rounds, timing.foreign) == (3, 0.0)
    assert timing.high == pytest.approx(6e-3)  # the two noisy rounds are not among them


def test_no_more_than_twice_the_rounds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure._Load, "foreign_share", lambda self: 0.25)
    timing = interleaved({"a": lambda: clock.sleep(6e-3)}, 3)["a"]
    assert (timing.rounds, timing.foreign) == (3, 0.25)
    assert clock.now == pytest.approx(10 + (3 + 2 * 6) * 6e-3)  # warm-up, then six rounds


def test_other_processes_are_noticed(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, own = iter([100.0, 101.0]), iter([5.0, 5.2])
    monkeypatch.setattr(measure, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(measure, "_own_seconds", lambda: next(own))
    monkeypatch.setattr(measure.os, "cpu_count", lambda: 2)
    load = measure._Load()
    clock.sleep(1.0)
    assert load.foreign_share() == pytest.approx(0.4)


def test_what_runs_out_of_memory_is_left_out() -> None:
    def huge() -> None:
        torch.empty(2**60)

    assert list(interleaved({"huge": huge, "small": lambda: None}, 3)) == ["small"]
    with pytest.raises(ZeroDivisionError):
        interleaved({"broken": lambda: 1 / 0}, 3)


def test_check_returns_the_largest_error() -> None:
    assert 0 < check(eager, TRUTH, views(20, 6), 0.2) < 1e-6
    assert check(eager, TRUTH, views(20, 6, torch.float64), 0.2) < 1e-13


@pytest.mark.parametrize("fault", ["value", "gradient of z0", "gradient of z1", "nan"])
def test_check_finds_faults(fault: str) -> None:
    def wrong(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        if fault == "gradient of z0":
            z0 = z0.detach() + 1.001 * (z0 - z0.detach())
        if fault == "gradient of z1":
            z1 = z1.detach() + 1.001 * (z1 - z1.detach())
        return eager(z0, z1, temperature) * {"value": 1.001, "nan": torch.nan}.get(fault, 1.0)

    with pytest.raises(ValueError, match="relative errors"):
        check(wrong, TRUTH, views(20, 6), 0.2)
    if fault != "nan":
        assert check(wrong, TRUTH, views(20, 6), 0.2, tolerance=0.01) == pytest.approx(
            1e-3, rel=0.1
        )


def test_floor_is_the_longest_of_products_exponentials_and_traffic() -> None:
    n, d = 50, 20
    # Half of the square of 2N rows: 2 x 5,000 x 20 FLOP, 5,000 exponentials.
    products = Rates(mm=1.0, product=1e3, exp=1e30, memory=1e30)
    assert machine.floor(n, d, PASSES[0], 4, products) == pytest.approx(2e5 / 1e3)
    assert machine.floor(n, d, PASSES[1], 4, products) == pytest.approx(8e5 / 1e3)
    exponentials = Rates(mm=1.0, product=1e30, exp=1e3, memory=1e30)
    assert machine.floor(n, d, PASSES[0], 4, exponentials) == pytest.approx(5e3 / 1e3)
    assert machine.floor(n, d, PASSES[1], 4, exponentials) == pytest.approx(1e4 / 1e3)
    traffic = Rates(mm=1.0, product=1e30, exp=1e30, memory=1e3)
    assert machine.floor(n, d, PASSES[1], 2, traffic) == pytest.approx(2 * 2 * n * d * 2 / 1e3)


def test_rates_come_from_the_probes() -> None:
    names = dict.fromkeys((*machine.probes(), "oneDNN"))
    timings = {name: Timing(0.5, 0.5, 0.5, 3, 0.0) for name in names}
    timings["oneDNN"] = Timing(0.25, 0.25, 0.25, 3, 0.0)
    found = machine.rates(timings)
    assert found == Rates(mm=4 * 2048**3, product=8 * 2048**3, exp=2**18, memory=2**29)
    timings["oneDNN"] = Timing(1.0, 1.0, 1.0, 3, 0.0)
    assert machine.rates(timings).product == found.mm
