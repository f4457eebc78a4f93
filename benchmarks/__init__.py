"""Measurements of the loss, on a GPU and of the trainer; their rows are in `results/`."""

import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the checkout
RESULTS = ROOT / "benchmarks" / "results"


def processor() -> str:
    """Return the name of this machine's processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
