"""The pytest-benchmark suite itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_some_of_the_suite_runs() -> None:
    pytest.importorskip("pytest_benchmark")
    picked = "n16-d32-float32-threads1-t0.5 and (eager or Liger)"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["benchmarks/loss/test_speed.py", "-k", picked, "--benchmark-disable", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed, 2 skipped" in done.stdout
    assert "skipped: runs on cuda only" in done.stdout
