"""The process of a training: freed memory is kept, ignored signals stay ignored."""

import os
import platform
import signal
import subprocess
import sys

import pytest

from simclr_ext.trainer.training import process

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
