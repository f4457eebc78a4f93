"""Predicts how fast the fused CUDA kernels are, from their instructions. NOT a measurement.

    python -m benchmarks.gpu.model [--sass benchmarks/results/sass.csv]

Reads the output of sass_report.py, and divides a tile's work for each unit of a multiprocessor by
the unit's rate per clock. The busiest unit would be the limit if it never waited. Around the main
loops are start and end of each block, the kernels that have none, and the gaps between kernels. All
that is assumed is in figures.py.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.gpu import figures
from benchmarks.gpu.figures import BUSY, EAGER_PASSES, ERROR, FUNCTION, GAP, GPUS, REDUCTION, Gpu
from benchmarks.gpu.grids import backward_strips, forward_strip

SASS = RESULTS / "sass.csv"
# The classes of D that docs/cuda.md shows per precision; the CSV has all of them.
SHOWN_DIMS = {"Bf16": (64, 128, 256), "Tf32x3": (128,)}
SIZES = (256, 512, 1024, 2048, 4096, 16_384, 65_536, 131_072)
STEPS = (256, 1024, 4096, 65_536)  # values of N whose kernels docs/cuda.md shows
# As in csrc/cuda: threads of a block of the kernels over rows, and of those that reduce; loads that
# a loop over partial results does not wait for; blocks of gradient_kernel on a multiprocessor.
ROW_THREADS, REDUCE_THREADS, AT_ONCE, GRADIENT_BLOCKS = 128, 512, 8, 6
Row = dict[str, str]


@dataclass(frozen=True)
class Launch:
    """A kernel of a step.

    Attributes:
        kernel: Its name.
        of: "forward" or "backward".
        blocks: Their number.
        clocks: From its start to its end.
    """

    kernel: str
    of: str
    blocks: int
    clocks: float


def main() -> None:
    """Print the limits of a tile, and a prediction over N."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sass", type=Path, default=SASS, help="what sass_report.py wrote")
    print(f"Predicted, not measured.\n\n{report(parser.parse_args().sass)}")


def report(sass: Path = SASS) -> str:
    """Return all tables, from the CSV file of sass_report.py."""
    with sass.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["shared_shift"] == "True"]
    parts = [tiles_table(rows), times_table(rows), step_table(rows), figures.table()]
    return "\n\n".join(parts)


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
        f"Forward + backward, bf16, D = 128, in ms: predicted, give or take "
        f"{100 * ERROR.value:.0f} %; of that, the gaps between the kernels; if the busiest unit "
        f"never waits; and eager PyTorch's lower bound, {EAGER_PASSES.value:g} passes over the "
        "matrix:\n",
        "| GPU | N | predicted | of that gaps | never waiting | eager |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, gpu in GPUS.items():
        chosen = kernels_of(rows, gpu)
        for n in SIZES:
            predicted = milliseconds(chosen, gpu, n, BUSY.value)
            low, high = (predicted * (1 + sign * ERROR.value) for sign in (-1, 1))
            least = milliseconds(chosen, gpu, n, 1.0)
            eager = 1e3 * EAGER_PASSES.value * (2 * n) ** 2 * 2 / gpu.memory
            numbers = " | ".join(digits(value) for value in (gaps(chosen, gpu), least, eager))
            lines.append(f"| {name} | {n:,} | {digits(low)} to {digits(high)} | {numbers} |")
    return "\n".join(lines)


def step_table(rows: list[Row]) -> str:
    """Return the kernels of a step on an H100, as Markdown."""
    gpu = GPUS["H100"]
    lines = [
        "The kernels of a step on an H100, bf16, D = 128: blocks, the share of the multiprocessors "
        "that have one, and us, without the gaps between kernels:\n",
        "| N | kernel | blocks | multiprocessors | us |\n|---:|---|---:|---:|---:|",
    ]
    for n in STEPS:
        launches = step(kernels_of(rows, gpu), gpu, 2 * n, BUSY.value)
        for launch in launches:
            share = min(1.0, launch.blocks / gpu.multiprocessors)
            time = digits(1e6 * launch.clocks / gpu.clock)
            lines.append(f"| {n:,} | {launch.kernel} | {launch.blocks:,} | {share:.0%} | {time} |")
        total = digits(1e6 * sum(launch.clocks for launch in launches) / gpu.clock)
        lines.append(f"| {n:,} | all | | | {total} |")
    return "\n".join(lines)


def digits(value: float) -> str:
    """Return a positive number with two significant digits."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def kernels_of(rows: list[Row], gpu: Gpu) -> dict[str, Row]:
    """Return the forward and backward kernels for bf16 and D = 128."""
    return {row["kernel"]: row for row in rows if key(row) == (gpu.arch, "Bf16", "128")}


def key(row: Row) -> tuple[str, str, str]:
    """Return what identifies a configuration."""
    return row["arch"], row["precision"], row["dim"]


def bytes_per_element(row: Row) -> int:
    """Return the size of a stored element."""
    return 2 if row["precision"] in ("Bf16", "Fp16") else 4


def limits(row: Row, gpu: Gpu) -> dict[str, float]:
    """Return the clocks that each unit of a multiprocessor is busy for one tile of one block."""
    n = {
        name: int(row[name]) * int(row["warps"])
        for name in ("tensor", "copies", "matrices", "loads", "shuffles", "exponentials",
                     "floats", "others")
    }  # fmt: skip
    tile_bytes = int(row["columns"]) * int(row["dim"]) * bytes_per_element(row)
    return {
        "tensor": n["tensor"] * gpu.tensor / gpu.mma_sync,
        "exponentials": n["exponentials"] * 32 / 16,
        # 128 bytes per clock: 512 of an LDSM or LDGSTS, 128 of an LDS or SHFL.
        "shared": 4 * (n["matrices"] + n["copies"]) + n["loads"] + n["shuffles"],
        "L2": cache_clocks(gpu, tile_bytes * gpu.multiprocessors),
        "floats": n["floats"] * 32 / gpu.float_lanes,
        "issue": sum(n.values()) / 4,
    }


def cache_clocks(gpu: Gpu, size: float) -> float:
    """Return the clocks in which the L2 cache delivers or takes so many bytes."""
    return size * gpu.clock / gpu.cache


def tile_clocks(row: Row, gpu: Gpu) -> float:
    """Return the minimum clocks per tile, with as many blocks at once as fit.

    One block alone does its products and its exponentials one after the other.
    """
    return max(*limits(row, gpu).values(), alone(row, gpu) / int(row["blocks"]))


def alone(row: Row, gpu: Gpu) -> float:
    """Return the clocks per tile of a block that has a multiprocessor to itself."""
    units = limits(row, gpu)
    return max(units["tensor"], units["shared"]) + max(units["exponentials"], units["floats"])


def rare(row: Row) -> float:
    """Return the additional clocks of a tile at an edge, or with positives."""
    elements = int(row["rows"]) * int(row["columns"]) / 32
    return figures.RARE[row["kernel"]].value * elements / 4


def milliseconds(kernels: dict[str, Row], gpu: Gpu, n: int, busy: float) -> float:
    """Return the predicted time of a step of N pairs.

    Args:
        kernels: The rows of "forward" and "backward".
        gpu: Where they run.
        n: N.
        busy: The busiest unit's share of the time.
    """
    return sum(of_passes(kernels, gpu, n, busy).values())


def of_passes(kernels: dict[str, Row], gpu: Gpu, n: int, busy: float) -> dict[str, float]:
    """Return the milliseconds of the forward and of the backward pass, with gaps."""
    times = {"forward": 0.0, "backward": 0.0}
    for launch in step(kernels, gpu, 2 * n, busy):
        times[launch.of] += 1e3 * launch.clocks / gpu.clock + 1e-3 * GAP.value
    return times


def gaps(kernels: dict[str, Row], gpu: Gpu) -> float:
    """Return the milliseconds between the kernels of a step."""
    return 1e-3 * GAP.value * len(step(kernels, gpu, 2, BUSY.value))


def step(kernels: dict[str, Row], gpu: Gpu, m: int, busy: float) -> list[Launch]:
    """Return the kernels of a step of M rows, in their order."""
    row = kernels["backward"]
    strips, _ = backward_strips(m, int(row["rows"]), int(row["columns"]))
    stored = m * int(row["dim"]) * bytes_per_element(row)
    partial = m * int(row["dim"]) * 4 * strips
    load, reduction, function = gpu.cache_latency, REDUCTION.value, FUNCTION.value

    def over_rows(kernel: str, of: str, per_block: int, chain: float, size: float) -> Launch:
        """A kernel without a main loop: its longest chain of instructions, and its traffic."""
        return Launch(kernel, of, math.ceil(m / per_block), chain + cache_clocks(gpu, size))

    strip = forward_strip(m, *(int(kernels["forward"][name]) for name in ("rows", "columns")))
    slots = math.ceil(m / strip) + 1
    reduced = batches(m / REDUCE_THREADS) * load + 2 * reduction
    rows_at_once = GRADIENT_BLOCKS * ROW_THREADS // 32 * gpu.multiprocessors
    # Partial gradients; then number and weight of positives, and the norm.
    of_a_row = (batches(strips) + 3) * load + reduction
    # In the last block: all blocks are counted, and the radial parts of all rows added.
    radial_sum = (2 + batches(m / ROW_THREADS)) * load + 2 * reduction + function
    return [
        over_rows("prepare", "forward", ROW_THREADS // 32,
                  gpu.memory_latency + 2 * reduction + function, 2 * stored),
        forward(kernels["forward"], gpu, m, busy),
        over_rows("finish", "forward", ROW_THREADS,
                  (batches(slots) + 1) * load + 2 * function, 4 * m * slots),
        over_rows("terms", "backward", REDUCE_THREADS,
                  reduced + 2 * load + 2 * function, 4 * m * math.ceil(m / REDUCE_THREADS)),
        backward(row, gpu, m, busy),
        over_rows("gradient", "backward", ROW_THREADS // 32,
                  math.ceil(m / rows_at_once) * of_a_row + radial_sum, partial + 3 * stored),
    ]  # fmt: skip


def batches(loads: float) -> int:
    """Return how often a loop of so many loads waits for some."""
    return math.ceil(loads / AT_ONCE)


def forward(row: Row, gpu: Gpu, m: int, busy: float) -> Launch:
    """Return the sums over the upper triangle of M rows, in pairs of strips."""
    rows, columns, resident = (int(row[name]) for name in ("rows", "columns", "blocks"))
    strip = forward_strip(m, rows, columns)
    strips = math.ceil(m / strip)
    blocks = strips * (strips + 1) // 2
    row_tiles = math.ceil(strip / rows)
    at_edge = rare(row) if strip < rows else 0.0
    visits = blocks * row_tiles  # of a tile of rows; strips on the diagonal have half the tiles
    tiles = visits * strip / columns * (1 if strip < rows else strips / (strips + 1))
    start = gpu.cache_latency
    work = tiles * (tile_clocks(row, gpu) + at_edge) / busy + visits * start / resident
    least = row_tiles * (strip / columns * (alone(row, gpu) + at_edge) / busy + start)
    return Launch("forward", "forward", blocks, max(work / gpu.multiprocessors, least))


def backward(row: Row, gpu: Gpu, m: int, busy: float) -> Launch:
    """Return the partial gradients of M rows: a block for each tile of rows and strip."""
    rows, columns, resident = (int(row[name]) for name in ("rows", "columns", "blocks"))
    strips, tiles = backward_strips(m, rows, columns)
    blocks = math.ceil(m / rows) * strips
    waves, rest = divmod(blocks, gpu.multiprocessors * resident)
    at_once = math.ceil(rest / gpu.multiprocessors)
    per_tile = waves * resident * tile_clocks(row, gpu)
    if at_once > 0:
        per_tile += max(alone(row, gpu), at_once * tile_clocks(row, gpu))
    # A wave begins with its tile of rows, and has tiles with positives.
    ends = (waves + (at_once > 0)) * (gpu.cache_latency + min(tiles, rows // columns) * rare(row))
    partial = cache_clocks(gpu, blocks * rows * int(row["dim"]) * 4)
    return Launch("backward", "backward", blocks, tiles * per_tile / busy + ends + partial)


if __name__ == "__main__":
    main()
