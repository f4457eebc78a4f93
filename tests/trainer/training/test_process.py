"""The process of a training: freed memory is kept, ignored signals stay ignored."""

import os
import platform
import signal
import subprocess
import sys

import pytest

from simclr_ext.trainer.training import process

TRIM, MMAP = -1, -3  # parameters of mallopt

# In its own process, because memory that another test freed may already be kept.
SCRIPT = """
import resource
from pathlib import Path
import torch
from simclr_ext.trainer.training.process import freed_memory_kept

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def use():
    torch.ones(2**26)  # 256 MiB

use()
before = resident()
with freed_memory_kept():
    use()
    print((resident() - before) // 2**20)
print((resident() - before) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of the GNU C library")
def test_freed_memory_is_kept_and_given_back() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    kept, afterwards = map(int, result.stdout.split())
    assert kept >= 250
    assert afterwards < 50


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: pytest.fail(f"{name} was loaded"))
    with process.freed_memory_kept():
        pass


class Libc:
    """A C library that takes a threshold of mapped blocks up to a limit, as glibc before 2.35."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.set: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        if parameter == MMAP and value > self.limit:
            return 0
        self.set.append((parameter, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        return 1


@pytest.mark.parametrize(
    ("limit", "during", "after"),
    [
        (2**40, [(MMAP, 2**30), (TRIM, -1)], [(MMAP, 2**17), (TRIM, 2**17)]),
        (2**25, [(MMAP, 2**25), (TRIM, -1)], [(MMAP, 2**17), (TRIM, 2**17)]),
        (2**19, [], []),
    ],
    ids=["2.35", "older", "32 bits"],
)
def test_nothing_is_set_unless_large_blocks_are_kept(
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    during: list[tuple[int, int]],
    after: list[tuple[int, int]],
) -> None:
    """A trim threshold alone would keep the other one from growing: less would be kept."""
    libc = Libc(limit)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: libc)
    with process.freed_memory_kept():
        assert libc.set == during
    assert libc.set == during + after


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with process.stop_request() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
