"""The same measurements as a pytest-benchmark suite, to select, repeat, save and compare some.

    pytest benchmarks/test_speed.py -k "simclr-ext and n1024-d128" --benchmark-autosave

Unlike sweep.py it times one implementation after the other, so that a disturbance may affect only
one: for differences of a few percent use sweep.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.loss import peers
from benchmarks.loss.cases import Case
from simclr_ext.bench.machine import PASSES, Pass
from simclr_ext.bench.measure import CHECKED, check, views
from simclr_ext.bench.memory import OUT_OF_MEMORY, allowance, attempt, limited

SIZES = (16, 64, 256, 1024, 4096, 16_384, 65_536)
DIMS = (32, 128, 512, 2048)
DTYPES = ("float32", "bfloat16")
TEMPERATURES = (0.5, 0.01)
THREADS = tuple(dict.fromkeys((1, torch.get_num_threads())))


def all_cases() -> Iterator[Case]:
    """Yield every combination; select some with -k."""
    for n, d, dtype, threads, t in itertools.product(SIZES, DIMS, DTYPES, THREADS, TEMPERATURES):
        yield Case(n, d, dtype, threads, t)


def name(case: Case) -> str:
    """Return a case's id, for -k."""
    return f"n{case.n}-d{case.d}-{case.dtype}-threads{case.threads}-t{case.temperature:g}"


@pytest.fixture
def threads(case: Case) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(case.threads)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("what", PASSES, ids=["forward", "both"])
@pytest.mark.parametrize("case", all_cases(), ids=name)
@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_speed(peer: peers.Peer, case: Case, what: Pass, benchmark: BenchmarkFixture) -> None:
    found, skipped = peers.find([peer])
    if peer.name in skipped:
        pytest.skip(skipped[peer.name])
    if (obstacle := peer.obstacle(case.threads)) is not None:
        pytest.skip(obstacle)
    loss = found[peer.name][1]
    dtype: torch.dtype = getattr(torch, case.dtype)
    torch.compiler.reset()  # otherwise beyond the recompilation limit it silently runs eagerly
    inputs = views(case.n, case.d, dtype)
    call = peer.timed(loss, inputs, case.temperature, what)
    with limited(allowance()):
        check(loss, peer.truth, views(min(case.n, CHECKED), case.d, dtype), case.temperature)
        status = attempt(call)
        if status == OUT_OF_MEMORY:
            pytest.skip(status)
        assert status == "ok"
        benchmark.group = f"{name(case)}, {what}"
        benchmark.extra_info |= {"peer": peer.name, "problem": peer.problem}
        benchmark(call)
