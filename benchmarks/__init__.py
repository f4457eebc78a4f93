"""Measurements of the loss, on a GPU and of the trainer; their rows are in `results/`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the checkout
RESULTS = ROOT / "benchmarks" / "results"
