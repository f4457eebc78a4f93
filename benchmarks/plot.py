"""Draws the README's chart, and prints its table, from the committed results.

python benchmarks/plot.py
"""

from __future__ import annotations

from pathlib import Path

import charts
import rows
from tables import times

CHART = Path(__file__).resolve().parent.parent / "docs" / "benchmark.png"
NAMED = ("simclr-ext", "eager", "torch.compile", "lightly", "chunked", "jax")


def main() -> None:
    """Read the last run, write the chart, print the table."""
    run, measured = rows.of_run(None)
    charts.readme(measured, NAMED).savefig(CHART, dpi=130)
    print(f"{run['run']}, {run['machine']}, {run['isa']}, torch {run['torch']}\n")
    print(times(measured, NAMED).grid())


if __name__ == "__main__":
    main()
