"""Runs Python with kernels that are compiled under AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m tests.sanitized -m pytest tests/test_accuracy.py
    python -m tests.sanitized -m tests.guarded 0 5000

The kernels are kept in build/sanitize, apart from others. An error ends the program.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.tools import ROOT

CXX = Path(__file__).with_name("sanitized-g++")


def environment() -> dict[str, str]:
    """Return the environment in which Python compiles and loads such kernels."""
    return {
        **os.environ,
        "CXX": str(CXX),
        "TORCH_EXTENSIONS_DIR": str(ROOT / "build" / "sanitize" / "kernels"),
        # The runtime must come first. It finds what throws only if libstdc++ is there at the start.
        "LD_PRELOAD": " ".join(map(_library, ("libasan.so", "libstdc++.so"))),
        # Python does not free all of its memory; and a huge allocation fails, as without ASan.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def _library(name: str) -> str:
    found = subprocess.run(
        [CXX, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


if __name__ == "__main__":
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment())
