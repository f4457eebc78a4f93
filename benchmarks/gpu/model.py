"""Predicts how fast the fused CUDA kernels are, from their instructions. NOT a measurement.

    python -m benchmarks.gpu.model [--sass benchmarks/results/sass.csv]

Reads the output of sass_report.py, and divides a tile's work for each unit of a multiprocessor by
the unit's rate per clock. The busiest unit would be the limit if it never waited; how much it
waits, and what start and end of a block cost, are guesses from similar kernels.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks import RESULTS

SASS = RESULTS / "sass.csv"
# The classes of D that docs/cuda.md shows per precision; the CSV has all of them.
SHOWN_DIMS = {"Bf16": (64, 128, 256), "Tf32x3": (128,)}
SIZES = (256, 1024, 4096, 16_384, 65_536, 131_072)
# How often eager PyTorch reads or writes the M x M matrix, forward and backward, at least.
EAGER_PASSES = 14
# The busiest unit's share of the time. FlashAttention-2, which has the same structure, reaches
# 324 to 370 of the 630 TFLOP/s possible with mma.sync on an H100, and up to 73 % of an A100's peak.
BUSY = 0.65
ERROR = 0.3  # relative error of a prediction
# Clocks from a load from global memory to its use, L2 cache or DRAM.
LATENCY = 400
PROLOGUE_LOADS = 2  # one after the other, before a tile of rows begins
# One after the other for each row of a warp, when a block of the backward pass ends.
EPILOGUE_LOADS = 4
KERNELS = 10  # launched per step
LAUNCH = 2.5e-6  # minimum seconds of one
MAX_STRIPS = 64  # as in csrc/cuda/stream.h


@dataclass(frozen=True)
class Gpu:
    """Rates per multiprocessor and clock, from NVIDIA's whitepapers of A100 and H100.

    Attributes:
        arch: Architecture whose machine code it runs.
        multiprocessors: Their number.
        clock: Clocks per second.
        tensor: Clocks per HMMA of 2048 half or 1024 TF32 multiplications, at the chip's peak.
        mma_sync: Share of that peak that `mma.sync`, which these kernels use, can reach: on an H100
            63 to 65 % have been published, the rest takes `wgmma`.
        float_lanes: FP32 lanes.
        cache: Bytes per second from the L2 cache, about.
        memory: Bytes per second from DRAM.
    """

    arch: str
    multiprocessors: int
    clock: float
    tensor: float
    mma_sync: float
    float_lanes: int
    cache: float
    memory: float


GPUS = {
    "A100": Gpu("sm_80", 108, 1.41e9, 2, 1.0, 64, 7.2e12, 1.555e12),
    "H100": Gpu("sm_90a", 132, 1.755e9, 1, 0.64, 128, 5.5e12, 3.35e12),
}
Row = dict[str, str]


def main() -> None:
    """Print the limits of a tile, and a prediction over N."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sass", type=Path, default=SASS, help="what sass_report.py wrote")
    print(f"Predicted, not measured.\n\n{report(parser.parse_args().sass)}")


def report(sass: Path = SASS) -> str:
    """Return both tables, from the CSV file of sass_report.py."""
    with sass.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["shared_shift"] == "True"]
    return f"{tiles_table(rows)}\n\n{times_table(rows)}"


def tiles_table(rows: list[Row]) -> str:
    """Return the clocks of a tile by unit, for bf16 and 3xTF32, as Markdown."""
    lines = [
        "Clocks of a multiprocessor per tile, by unit, and the share of the card's peak that the "
        "tensor cores have if the busiest unit never waits:\n",
        "| GPU | kernel | precision | D | tensor | EX2 | shared | L2 | FP32 | issue | of peak |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, gpu in GPUS.items():
        for row in rows:
            shown = int(row["dim"]) in SHOWN_DIMS.get(row["precision"], ())
            if row["arch"] == gpu.arch and shown:
                units = limits(row, gpu)
                cells = " | ".join(f"{clocks:,.0f}" for clocks in units.values())
                share = units["tensor"] * gpu.mma_sync / tile_clocks(row, gpu)
                kernel = f"{row['kernel']} | {row['precision']} | {row['dim']}"
                lines.append(f"| {name} | {kernel} | {cells} | {share:.2f} |")
    return "\n".join(lines)


def times_table(rows: list[Row]) -> str:
    """Return the predicted times over N for bf16 and D = 128, as Markdown."""
    lines = [
        f"Forward + backward, bf16, D = 128, in ms: predicted, give or take {100 * ERROR:.0f} %; "
        "if the busiest unit never waits; and eager PyTorch's lower bound, "
        f"{EAGER_PASSES} passes over the matrix:\n",
        "| GPU | N | predicted | never waiting | eager |\n|---|---:|---:|---:|---:|",
    ]
    for name, gpu in GPUS.items():
        chosen = {r["kernel"]: r for r in rows if key(r) == (gpu.arch, "Bf16", "128")}
        for n in SIZES:
            predicted = milliseconds(chosen, gpu, n, BUSY)
            low, high = (predicted * (1 + sign * ERROR) for sign in (-1, 1))
            least = milliseconds(chosen, gpu, n, 1.0)
            eager = 1e3 * EAGER_PASSES * (2 * n) ** 2 * 2 / gpu.memory
            lines.append(
                f"| {name} | {n:,} | {digits(low)} to {digits(high)} | {digits(least)} | "
                f"{digits(eager)} |"
            )
    return "\n".join(lines)


def digits(value: float) -> str:
    """Return a positive number with two significant digits."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def key(row: Row) -> tuple[str, str, str]:
    """Return what identifies a configuration."""
    return row["arch"], row["precision"], row["dim"]


def limits(row: Row, gpu: Gpu) -> dict[str, float]:
    """Return the clocks that each unit of a multiprocessor is busy for one tile of one block."""
    n = {
        name: int(row[name]) * int(row["warps"])
        for name in ("tensor", "copies", "matrices", "loads", "shuffles", "exponentials",
                     "floats", "others")
    }  # fmt: skip
    bytes_per_element = 2 if row["precision"] in ("Bf16", "Fp16") else 4
    tile_bytes = int(row["columns"]) * int(row["dim"]) * bytes_per_element
    return {
        "tensor": n["tensor"] * gpu.tensor / gpu.mma_sync,
        "exponentials": n["exponentials"] * 32 / 16,
        # 128 bytes per clock: 512 of an LDSM or LDGSTS, 128 of an LDS or SHFL.
        "shared": 4 * (n["matrices"] + n["copies"]) + n["loads"] + n["shuffles"],
        "L2": tile_bytes * gpu.multiprocessors * gpu.clock / gpu.cache,
        "floats": n["floats"] * 32 / gpu.float_lanes,
        "issue": sum(n.values()) / 4,
    }


def tile_clocks(row: Row, gpu: Gpu) -> float:
    """Return the minimum clocks per tile, with as many blocks at once as fit.

    One block alone does its products and its exponentials one after the other.
    """
    return max(*limits(row, gpu).values(), alone(row, gpu) / int(row["blocks"]))


def alone(row: Row, gpu: Gpu) -> float:
    """Return the clocks per tile of a block that has a multiprocessor to itself."""
    units = limits(row, gpu)
    return max(units["tensor"], units["shared"]) + max(units["exponentials"], units["floats"])


def milliseconds(kernels: dict[str, Row], gpu: Gpu, n: int, busy: float) -> float:
    """Return the predicted time of a step of N pairs.

    Args:
        kernels: The rows of "forward" and "backward".
        gpu: Where they run.
        n: N.
        busy: The busiest unit's share of the time.
    """
    return sum(of_passes(kernels, gpu, n, busy).values()) + 1e3 * KERNELS * LAUNCH


def of_passes(kernels: dict[str, Row], gpu: Gpu, n: int, busy: float) -> dict[str, float]:
    """Return the milliseconds of the forward and of the backward pass, without launches."""
    functions = {"forward": forward_clocks, "backward": backward_clocks}
    return {
        name: 1e3 * function(kernels[name], gpu, 2 * n, busy) / gpu.clock
        for name, function in functions.items()
    }


def forward_clocks(row: Row, gpu: Gpu, m: int, busy: float) -> float:
    """Return the clocks of the sums over the upper triangle of M rows, in pairs of strips."""
    rows, columns, resident = (int(row[name]) for name in ("rows", "columns", "blocks"))
    strip = math.ceil(m / (MAX_STRIPS * rows)) * rows
    strips = math.ceil(m / strip)
    blocks = strips * (strips + 1) // 2
    visits = blocks * strip / rows  # of a tile of rows; strips on the diagonal have half the tiles
    tiles = visits * strip / columns * strips / (strips + 1)
    work = tiles * tile_clocks(row, gpu) / busy + visits * PROLOGUE_LOADS * LATENCY / resident
    least = strip / rows * (strip / columns * alone(row, gpu) / busy + PROLOGUE_LOADS * LATENCY)
    return max(work / gpu.multiprocessors, least)


def backward_clocks(row: Row, gpu: Gpu, m: int, busy: float) -> float:
    """Return the clocks of the gradients of M rows, a block for each tile of rows."""
    blocks = math.ceil(m / int(row["rows"]))
    resident = int(row["blocks"])
    waves, rest = divmod(blocks, gpu.multiprocessors * resident)
    at_once = math.ceil(rest / gpu.multiprocessors)
    per_tile = waves * resident * tile_clocks(row, gpu)
    if at_once > 0:
        per_tile += max(alone(row, gpu), at_once * tile_clocks(row, gpu))
    epilogue = int(row["rows"]) / int(row["warps"]) * EPILOGUE_LOADS * LATENCY
    ends = (waves + (at_once > 0)) * (PROLOGUE_LOADS * LATENCY + epilogue)
    return per_tile * math.ceil(m / int(row["columns"])) / busy + ends


if __name__ == "__main__":
    main()
