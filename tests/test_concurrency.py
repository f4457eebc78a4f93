"""Right results, and no deadlock, from threads and processes that call the loss together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.concurrency import PROGRAMS, SECONDS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PROGRAMS)
def test_at_the_same_time(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.concurrency", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * SECONDS,
    )
    assert done.returncode == 0, done.stderr
