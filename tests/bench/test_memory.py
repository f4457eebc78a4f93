"""Measured peak memory, and running out of memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from simclr_ext.bench.memory import OUT_OF_MEMORY, attempt, available, is_out_of_memory, peak


def test_statuses() -> None:
    def raise_memory_error() -> None:
        raise MemoryError

    assert attempt(lambda: None) == "ok"
    assert attempt(raise_memory_error) == OUT_OF_MEMORY
    assert attempt(lambda: torch.empty(2**60)) == OUT_OF_MEMORY
    assert attempt(lambda: [][0]) == "failed: IndexError: list index out of range"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shape mismatch"), False),
    ],
    ids=lambda value: str(value)[:12],
)
def test_messages(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_allocations_fail_beyond_the_limit_and_not_after_it() -> None:
    # In its own process, because the limit would affect other tests' threads.
    program = (
        "import torch\n"
        "from simclr_ext.bench.memory import attempt, limited\n"
        "with limited(2**28):\n"
        "    print(attempt(lambda: torch.empty(2**26 // 4)))\n"
        "    print(attempt(lambda: torch.empty(2**30 // 4)))\n"
        "print(attempt(lambda: torch.empty(2**30 // 4)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["ok", OUT_OF_MEMORY, "ok", ""]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_peak_sees_what_is_gone_again() -> None:
    def call() -> None:
        torch.ones(64 * 2**20 // 4)

    assert peak(call) == pytest.approx(64 * 2**20, rel=0.1)
    assert peak(lambda: None) < 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_peak_sees_memory_that_was_freed_and_kept() -> None:
    # In its own process, because allocations of other tests would keep some of it resident.
    program = (
        "import torch\n"
        "from simclr_ext.bench.memory import peak\n"
        "def call():\n"
        "    return [torch.ones(2**16 // 4) for _ in range(1000)]  # too small to be given back\n"
        "call()\n"
        "print(peak(call))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert int(done.stdout) == pytest.approx(1000 * 2**16, rel=0.1)


def test_available_memory() -> None:
    assert 2**20 < available() <= 2**62
