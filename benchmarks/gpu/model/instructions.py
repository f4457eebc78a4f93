"""What one turn of a kernel's main loop executes, as sass_report.py counted it."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

from benchmarks import RESULTS

SASS = RESULTS / "sass.csv"
WIDTHS = (32, 64, 128, 256)  # classes of D
# Those that docs/cuda.md shows per precision; the CSV has all of them.
SHOWN_DIMS = {"Bf16": (64, 128, 256), "Tf32x3": (128,)}
Row = dict[str, str]


@functools.cache
def of_file(sass: Path = SASS) -> tuple[Row, ...]:
    """Return the kernels of all architectures, with a shift that all rows share."""
    with sass.open(newline="") as file:
        return tuple(row for row in csv.DictReader(file) if row["shared_shift"] == "True")


def kernels(arch: str, precision: str, dim: int, rows: tuple[Row, ...]) -> dict[str, Row]:
    """Return the forward and the backward kernel of a class of D; {} if there are none."""
    width = next((width for width in WIDTHS if dim <= width), None)
    wanted = (arch, precision, str(width))
    return {row["kernel"]: row for row in rows if key(row) == wanted}


def key(row: Row) -> tuple[str, str, str]:
    """Return what identifies a configuration."""
    return row["arch"], row["precision"], row["dim"]


def bytes_per_element(precision: str) -> int:
    """Return the size of a stored element."""
    return 2 if precision in ("Bf16", "Fp16") else 4
