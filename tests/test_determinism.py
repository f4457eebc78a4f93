"""Bit-identical results from run to run, for any number of threads and any load."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from simclr_ext.backends import loader
from tests.accuracy import loss_and_grads


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(n: int, temperature: float) -> list[Tensor]:
    z0, z1 = torch.randn(2, n, 70, generator=torch.Generator().manual_seed(n))
    return loss_and_grads((z0, z1), temperature, backend="fused")


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("n", [20, 96, 97, 400, 1500])
def test_any_number_of_threads(n: int, temperature: float) -> None:
    torch.set_num_threads(1)
    expected = run(n, temperature)
    for threads in (1, 2, 3, 5, 8):
        torch.set_num_threads(threads)
        for value, other in zip(run(n, temperature), expected, strict=True):
            assert torch.equal(value, other), threads


def test_callers_in_parallel() -> None:
    expected = run(300, 0.2)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: run(300, 0.2), range(12)):
            assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_threads_of_torch_are_left_as_they_were() -> None:
    torch.set_num_threads(2)
    a = torch.randn(300, 300)
    before = torch.__config__.parallel_info()
    run(300, 0.5)
    assert torch.__config__.parallel_info() == before
    assert torch.equal(a @ a, a @ a)


SELF_TEST = """
import simclr_ext.backends.loader, simclr_ext.doctor
print(simclr_ext.backends.loader.load().active_isa(), max(simclr_ext.doctor.self_test().values()))
"""


def run_with_isa(isa: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SELF_TEST],
        env={**os.environ, "SIMCLR_EXT_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("isa", loader.load().available_isas())
def test_instruction_set_can_be_forced(isa: str) -> None:
    result = run_with_isa(isa)
    assert result.returncode == 0, result.stderr
    name, error = result.stdout.split()
    assert name == isa
    assert float(error) <= 1


def test_unknown_instruction_set_is_refused() -> None:
    result = run_with_isa("sse9")
    assert result.returncode != 0
    assert "SIMCLR_EXT_ISA is 'sse9', but this processor runs one of: baseline" in result.stderr
