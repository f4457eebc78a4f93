"""The operators read nothing outside of their inputs, whatever they are called with."""

import ctypes
import faulthandler
import mmap
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.guarded.pages import guarded

ROOT = Path(__file__).parents[1]


def test_random_calls_between_guard_pages() -> None:
    """Make 500 calls where there are three instruction sets."""
    command = [sys.executable, "-m", "tests.guarded", "0", "130"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = "\n".join(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, f"{done.stderr}\nin {last}"
    for answered, refused in re.findall(r"answered (\d+), refused (\d+)", done.stdout):
        assert int(answered) > 80  # both passes of most
        assert int(refused) > 20


def exit_code(touch: Callable[[int, int], object], values: torch.Tensor) -> int:
    """Return how a process ends that reads or writes around the bytes of a tensor."""
    begin, child = values.data_ptr(), os.fork()
    if child == 0:
        faulthandler.disable()  # the crash is expected
        touch(begin, begin + values.nbytes)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("at_end", [True, False], ids=["at the end", "at the begin"])
def test_a_guarded_tensor_is_readable_and_nothing_beside_it(at_end: bool) -> None:
    values = guarded(torch.ones(5, 3), at_end=at_end)
    assert torch.equal(values, torch.ones(5, 3))
    assert exit_code(lambda begin, end: ctypes.string_at(begin, end - begin), values) == 0
    for touch in (
        lambda begin, _: ctypes.memset(begin, 0, 1),
        lambda begin, end: ctypes.string_at(end if at_end else begin - 1, 1),
        lambda begin, end: ctypes.string_at(begin - mmap.PAGESIZE, 1),
        lambda begin, end: ctypes.string_at(end - 1 + mmap.PAGESIZE, 1),
    ):
        assert exit_code(touch, values) == -signal.SIGSEGV
