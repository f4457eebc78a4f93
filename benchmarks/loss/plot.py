"""Draws the charts of README and docs/benchmarks.md from the committed results.

python -m benchmarks.loss.plot [RUN]
"""

from __future__ import annotations

import argparse

from benchmarks import ROOT
from benchmarks.loss import charts, rows

SIZES = (256, 1024, 8192)
NAMES = {
    "simclr-ext": "simclr-ext",
    "eager": "eager PyTorch",
    "torch.compile": "torch.compile",
    "lightly": "lightly",
    "jax": "JAX",
}


def main() -> None:
    """Read a run, write the charts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="name of a run; default: the last full one")
    run, measured = rows.of_run(parser.parse_args().run or rows.last_of("full"))
    docs = ROOT / "docs"
    charts.at_sizes(measured, NAMES, SIZES).savefig(docs / "benchmark.png", dpi=130)
    names = {*NAMES, "chunked"}
    charts.over_sizes(measured, names).savefig(docs / "benchmark-sizes.png", dpi=130)
    print(f"{run['run']}, {run['machine']}, {run['isa']}, torch {run['torch']}: {docs}")


if __name__ == "__main__":
    main()
