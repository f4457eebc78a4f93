"""Predicts how fast the fused CUDA kernels could be, from their instructions. NOT a measurement.

    python benchmarks/gpu_model.py [--sass benchmarks/results/sass.csv]

Reads what sass_report.py wrote, and compares what a tile asks of a multiprocessor's units with what
they do per clock. A unit that is busy all the time is the limit; nothing else is modelled, so the
times are lower bounds.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "sass.csv"
SIZES = (1024, 4096, 16_384, 65_536, 131_072)
# Reading or writing the M x M matrix: what eager PyTorch does, forward and backward, at least.
EAGER_PASSES = 14


@dataclass(frozen=True)
class Gpu:
    """Rates per multiprocessor and clock, from NVIDIA's whitepapers of A100 and H100.

    Attributes:
        arch: Whose machine code runs there.
        multiprocessors: Their number.
        clock: Clocks per second.
        tensor: Clocks per HMMA of 2048 half or 1024 TF32 multiplications, at the chip's peak; on
            H100 `mma.sync`, which these kernels use, is known to reach less of it than `wgmma`.
        float_lanes: FP32 lanes.
        cache: Bytes per second from the L2 cache, about.
        memory: Bytes per second from DRAM.
    """

    arch: str
    multiprocessors: int
    clock: float
    tensor: float
    float_lanes: int
    cache: float
    memory: float


GPUS = {
    "A100": Gpu("sm_80", 108, 1.41e9, 2, 64, 7.2e12, 1.555e12),
    "H100": Gpu("sm_90a", 132, 1.755e9, 1, 128, 5.5e12, 3.35e12),
}
Row = dict[str, str]


def main() -> None:
    """Print the limits of a tile, and a prediction over N."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sass", type=Path, default=RESULTS, help="what sass_report.py wrote")
    args = parser.parse_args()
    with args.sass.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["shared_shift"] == "True"]
    print("Predicted, not measured. Clocks of a multiprocessor per tile, by unit:\n")
    print("| GPU | kernel | precision | D | tensor | EX2 | shared | L2 | FP32 | issue | of peak |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, gpu in GPUS.items():
        for row in rows:
            if row["arch"] == gpu.arch:
                units = limits(row, gpu)
                cells = " | ".join(f"{clocks:,.0f}" for clocks in units.values())
                share = units["tensor"] / tile_clocks(row, gpu)
                kernel = f"{row['kernel']} | {row['precision']} | {row['dim']}"
                print(f"| {name} | {kernel} | {cells} | {share:.2f} |")
    print("\nPredicted least time of forward + backward, bf16, D = 128, ms:\n")
    print("| GPU | N | fused | eager, by its passes over memory |\n|---|---:|---:|---:|")
    for name, gpu in GPUS.items():
        chosen = {r["kernel"]: r for r in rows if key(r) == (gpu.arch, "Bf16", "128")}
        for n in SIZES:
            fused = forward_seconds(chosen["forward"], gpu, 2 * n)
            fused += backward_seconds(chosen["backward"], gpu, 2 * n)
            eager = EAGER_PASSES * (2 * n) ** 2 * 2 / gpu.memory
            print(f"| {name} | {n:,} | {1e3 * fused:.2f} | {1e3 * eager:.2f} |")


def key(row: Row) -> tuple[str, str, str]:
    """Return what tells a configuration from others."""
    return row["arch"], row["precision"], row["dim"]


def limits(row: Row, gpu: Gpu) -> dict[str, float]:
    """Return the clocks that each unit of a multiprocessor is busy for one tile of one block."""
    n = {name: int(row[name]) * int(row["warps"]) for name in
         ("tensor", "copies", "matrices", "loads", "exponentials", "floats", "others")}  # fmt: skip
    bytes_per_element = 2 if row["precision"] in ("Bf16", "Fp16") else 4
    tile_bytes = int(row["columns"]) * int(row["dim"]) * bytes_per_element
    return {
        "tensor": n["tensor"] * gpu.tensor,
        "exponentials": n["exponentials"] * 32 / 16,
        # 128 bytes per clock: 512 of an LDSM or LDGSTS, 128 of an LDS.
        "shared": 4 * (n["matrices"] + n["copies"]) + n["loads"],
        "L2": tile_bytes * gpu.multiprocessors * gpu.clock / gpu.cache,
        "floats": n["floats"] * 32 / gpu.float_lanes,
        "issue": sum(n.values()) / 4,
    }


def tile_clocks(row: Row, gpu: Gpu) -> float:
    """Return the least clocks per tile, with as many blocks at once as fit.

    One block alone does its products and its exponentials one after the other.
    """
    units = limits(row, gpu)
    return max(*units.values(), alone(row, gpu) / int(row["blocks"]))


def alone(row: Row, gpu: Gpu) -> float:
    """Return the clocks per tile of a block that has a multiprocessor to itself."""
    units = limits(row, gpu)
    return max(units["tensor"], units["shared"]) + max(units["exponentials"], units["floats"])


def forward_seconds(row: Row, gpu: Gpu, m: int) -> float:
    """Return the predicted least time of the sums over the upper triangle of M rows."""
    tiles = math.ceil(m / int(row["rows"])) * math.ceil(m / int(row["columns"])) / 2
    return tiles * tile_clocks(row, gpu) / gpu.multiprocessors / gpu.clock


def backward_seconds(row: Row, gpu: Gpu, m: int) -> float:
    """Return the predicted least time of the gradients of M rows, a block for each tile of rows."""
    blocks = math.ceil(m / int(row["rows"]))
    resident = int(row["blocks"])
    waves, rest = divmod(blocks, gpu.multiprocessors * resident)
    at_once = math.ceil(rest / gpu.multiprocessors)
    clocks = waves * resident * tile_clocks(row, gpu)
    if at_once > 0:
        clocks += max(alone(row, gpu), at_once * tile_clocks(row, gpu))
    return clocks * math.ceil(m / int(row["columns"])) / gpu.clock


if __name__ == "__main__":
    main()
