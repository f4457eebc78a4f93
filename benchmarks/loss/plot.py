"""Draws the README's chart, from the committed results; tests/generated.py has its table.

python -m benchmarks.loss.plot [RUN]
"""

from __future__ import annotations

import argparse

from benchmarks import ROOT
from benchmarks.loss import charts, rows

CHART = ROOT / "docs" / "benchmark.png"
NAMED = ("simclr-ext", "eager", "torch.compile", "lightly", "chunked", "jax")


def main() -> None:
    """Read a run, write the chart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="name of a run; default: the last full one")
    run, measured = rows.of_run(parser.parse_args().run or rows.last_full())
    charts.readme(measured, NAMED).savefig(CHART, dpi=130)
    print(f"{run['run']}, {run['machine']}, {run['isa']}, torch {run['torch']}: {CHART}")


if __name__ == "__main__":
    main()
