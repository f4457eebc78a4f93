"""Predicts how fast the CUDA kernels are. NOT a measurement.

python -m benchmarks.gpu.model [--sass benchmarks/results/sass.csv]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.gpu.model import tables
from benchmarks.gpu.model.instructions import SASS


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sass", type=Path, default=SASS, help="what sass_report.py wrote")
    print(f"Predicted, not measured.\n\n{tables.report(parser.parse_args().sass)}")


if __name__ == "__main__":
    main()
