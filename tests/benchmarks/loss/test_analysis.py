"""Growth, best peers and shares of the machine, from rows whose answers are known."""

from __future__ import annotations

import pytest

from benchmarks.loss import analysis
from benchmarks.loss.analysis import (
    Growth,
    efficiency,
    growth,
    main_series,
    own,
    slower_than_a_peer,
)
from benchmarks.loss.peers import OURS, TILED
from tests.benchmarks.loss.helpers import failed, row, run_of_three


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 2.93])
def test_growth_finds_the_exponent(exponent: float) -> None:
    points = [(n, 3 * n**exponent) for n in (64, 128, 512, 1024)]
    fit = growth(points)
    assert fit is not None
    assert (fit.exponent, fit.factor) == (pytest.approx(exponent), pytest.approx(3))
    assert fit.largest == 1024


def test_growth_looks_at_the_largest_sizes() -> None:
    """The cost of a call, which small sizes measure, is not growth."""
    fit = growth([(16, 7.0), (4096, 4096**2), (32, 7.0), (2048, 2048**2), (1024, 1024**2)])
    assert fit is not None
    assert fit.exponent == pytest.approx(2)


def test_growth_needs_two_sizes() -> None:
    assert growth([]) is None
    assert growth([(64, 1.0)]) is None
    assert growth([(64, 1.0), (128, 0.0)]) is None  # less than can be measured


def test_largest_size_within_a_budget() -> None:
    fit = Growth(exponent=2.0, factor=1e-3, largest=512)
    assert fit.size(1000.1) == 1000
    assert fit.size(999.0) == 999  # 999.5, cut off
    slow = Growth(exponent=0.4, factor=1.0, largest=512)
    assert slow.size(10 * 512**0.4) in (5119, 5120)  # not 10^2.5 times as large


def test_memory_grows_as_the_allocator_says_where_it_is_asked() -> None:
    asked = [row(n=n, rss_mib=7.0, allocated_mib=n / 64) for n in (1024, 2048)]
    unasked = [row(n=n, rss_mib=(n / 64) ** 2) for n in (1024, 2048)]
    exponents = [fit and fit.exponent for fit in map(analysis.memory_growth, (asked, unasked))]
    assert exponents == [pytest.approx(1), pytest.approx(2)]


def test_growth_of_a_run() -> None:
    peers = analysis.by_peer(run_of_three())
    time, memory = (
        {name: fit and fit(rows) for name, rows in peers.items()}
        for fit in (analysis.time_growth, analysis.memory_growth)
    )
    assert [time[name].exponent for name in peers] == [pytest.approx(2)] * 3  # type: ignore[union-attr]
    found = [memory[name].exponent for name in peers]  # type: ignore[union-attr]
    assert found == [pytest.approx(1), pytest.approx(2), pytest.approx(2)]


def test_the_main_series_is_one_line_of_the_plot() -> None:
    others = [
        row(d=64),
        row(dtype="bfloat16"),
        row(temperature=0.1),
        row(threads=1),
        row(what="forward"),
    ]
    rows = [row(n=16), *others, row(n=32)]
    assert [r.n for r in main_series(rows)] == [16, 32]
    assert main_series([]) == []


def test_efficiency() -> None:
    # 4 x 2048^2 x 128 FLOP in 10 ms are 215 GFLOP/s.
    assert efficiency(row(mm_gflops=429.5)) == pytest.approx(0.5, rel=1e-3)
    assert efficiency(row(what="forward", mm_gflops=429.5)) == pytest.approx(0.125, rel=1e-3)
    with pytest.raises(ValueError, match="not timed at N = 1024: out of memory"):
        efficiency(failed("out of memory"))


def test_our_backends_are_no_peers() -> None:
    shape = [row(), row(peer=TILED, ms=1.0), row(peer="eager", ms=20.0), row(peer="b", ms=15.0)]
    assert own(shape) == shape[0]
    assert [r.peer for r in analysis.others(shape)] == ["b", "eager"]
    assert own([failed("out of memory", peer=OURS)]) is None


def test_where_a_peer_is_faster() -> None:
    rows = [
        *(row(n=16), row(n=16, peer="eager", ms=9.0), row(n=16, peer="lightly", ms=8.0)),
        *(row(n=32), row(n=32, peer="eager", ms=11.0)),
        *(row(n=64), failed("out of memory", n=64, peer="eager")),
        *(failed("out of memory", n=128), row(n=128, peer="eager")),
    ]
    assert slower_than_a_peer(rows) == [(rows[0], rows[2])]
