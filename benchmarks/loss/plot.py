"""Draws the README's chart, and prints its table, from the committed results.

python -m benchmarks.loss.plot [RUN]
"""

from __future__ import annotations

import argparse

from benchmarks import ROOT
from benchmarks.loss import charts, rows
from benchmarks.loss.tables import times

CHART = ROOT / "docs" / "benchmark.png"
NAMED = ("simclr-ext", "eager", "torch.compile", "lightly", "chunked", "jax")


def main() -> None:
    """Read a run, write the chart, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="name of a run; default: the last full one")
    run, measured = rows.of_run(parser.parse_args().run or _last_full())
    charts.readme(measured, NAMED).savefig(CHART, dpi=130)
    print(f"{run['run']}, {run['machine']}, {run['isa']}, torch {run['torch']}\n")
    print(times(measured, NAMED).grid())


def _last_full() -> str | None:
    runs = rows.read_runs() if rows.SPEED.exists() else {}
    return next((name for name in reversed(runs) if runs[name]["plan"].startswith("full")), None)


if __name__ == "__main__":
    main()
