import platform
import resource
from pathlib import Path

import pytest
import torch

from simclr_ext.trainer.memory import freed_memory_kept

MIB = 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of the GNU C library")
def test_freed_memory_is_kept_and_given_back() -> None:
    before = resident()
    with freed_memory_kept():
        large = torch.ones(64 * MIB)  # 256 MiB
        del large
        assert resident() - before > 200 * MIB
    assert resident() - before < 100 * MIB


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    before = resident()
    with freed_memory_kept():
        large = torch.ones(64 * MIB)
        del large
        assert resident() - before < 100 * MIB
