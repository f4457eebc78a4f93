"""Predicts how long the kernels that multiply themselves take, from their instructions.

A tile's work for each unit of a multiprocessor is divided by the unit's rate per clock. The busiest
unit would be the limit if it never waited. Around the main loops are start and end of each block,
the kernels that have none, and the gaps between kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.gpu.model.figures import (
    BUSY,
    EXPONENTIALS,
    FUNCTION,
    GAP,
    ISSUED,
    RARE,
    REDUCTION,
    SHARED,
    Gpu,
)
from benchmarks.gpu.model.grids import backward_strips, forward_strip
from benchmarks.gpu.model.instructions import Row, bytes_per_element

# As in csrc/cuda: threads of a block of the kernels over rows, and of those that reduce; loads that
# a loop over partial results does not wait for; blocks of gradient_kernel on a multiprocessor.
ROW_THREADS, REDUCE_THREADS, AT_ONCE, GRADIENT_BLOCKS = 128, 512, 8, 6


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


def limits(row: Row, gpu: Gpu) -> dict[str, float]:
    """Return the clocks that each unit of a multiprocessor is busy for one tile of one block."""
    n = {
        name: int(row[name]) * int(row["warps"])
        for name in ("tensor", "copies", "matrices", "loads", "shuffles", "exponentials",
                     "floats", "others")
    }  # fmt: skip
    return {
        "tensor": n["tensor"] * gpu.tensor / gpu.mma_sync,
        "exponentials": n["exponentials"] * 32 / EXPONENTIALS.value,
        # Bytes of an LDSM or LDGSTS, and of an LDS or SHFL.
        "shared": (512 * (n["matrices"] + n["copies"]) + 128 * (n["loads"] + n["shuffles"]))
        / SHARED.value,
        "L2": copy(row, gpu, int(row["columns"])),
        "floats": n["floats"] * 32 / gpu.float_lanes,
        "issue": sum(n.values()) / ISSUED.value,
    }


def copy(row: Row, gpu: Gpu, rows: int) -> float:
    """Return the clocks in which all multiprocessors copy so many rows from the L2 cache."""
    size = rows * int(row["dim"]) * bytes_per_element(row["precision"]) * gpu.multiprocessors
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


def loop_flops(row: Row, gpu: Gpu) -> float:
    """Return the FLOP/s of a kernel's main loops while every multiprocessor has its blocks."""
    busy = BUSY.value * limits(row, gpu)["tensor"] * gpu.mma_sync / tile_clocks(row, gpu)
    return busy * gpu.peak


def rare(row: Row) -> float:
    """Return the additional clocks of a tile at an edge, or with positives."""
    elements = int(row["rows"]) * int(row["columns"]) / 32
    return RARE[row["kernel"]].value * elements / ISSUED.value


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


def step(
    kernels: dict[str, Row], gpu: Gpu, m: int, busy: float, learned: bool = False
) -> list[Launch]:
    """Return the kernels of a step of M rows, in their order.

    Args:
        kernels: The rows of "forward" and "backward".
        gpu: Where they run.
        m: M.
        busy: The busiest unit's share of the time.
        learned: Whether the temperature has a gradient.
    """
    row = kernels["backward"]
    strips, _ = backward_strips(m, int(row["rows"]), int(row["columns"]))
    stored = m * int(row["dim"]) * bytes_per_element(row["precision"])
    partial = m * int(row["dim"]) * 4 * strips
    load, reduction, function = gpu.cache_latency, REDUCTION.value, FUNCTION.value

    def over_rows(
        kernel: str, of: str, per_block: int, chain: float, size: float, times: int = 1
    ) -> Launch:
        """A kernel without a main loop: its longest chain of instructions, and its traffic."""
        return Launch(kernel, of, math.ceil(m / per_block), chain + traffic(gpu, size, times))

    strip = forward_strip(m, *(int(kernels["forward"][name]) for name in ("rows", "columns")))
    slots = math.ceil(m / strip) + 1
    reduced = batches(m / REDUCE_THREADS) * load + 2 * reduction
    rows_at_once = GRADIENT_BLOCKS * ROW_THREADS // 32 * gpu.multiprocessors
    # Partial gradients; then number and weight of positives, and the norm.
    of_a_row = (batches(strips) + 3) * load + reduction
    # In the last block, for the temperature's gradient: all blocks are counted, and the radial
    # parts of all rows added.
    radial_sum = (2 + batches(m / ROW_THREADS)) * load + 2 * reduction + function
    return [
        over_rows("prepare", "forward", ROW_THREADS // 32,
                  gpu.memory_latency + 2 * reduction + function, 2 * stored),
        forward(kernels["forward"], gpu, m, busy),
        over_rows("finish", "forward", ROW_THREADS,
                  (batches(slots) + 1) * load + 2 * function, 4 * m * slots),
        # Every block reads the gradients of all rows, for their largest.
        over_rows("terms", "backward", REDUCE_THREADS, reduced + 2 * load + 2 * function, 4 * m,
                  times=math.ceil(m / REDUCE_THREADS)),
        backward(row, gpu, m, busy),
        over_rows("gradient", "backward", ROW_THREADS // 32,
                  math.ceil(m / rows_at_once) * of_a_row + learned * radial_sum,
                  partial + 3 * stored),
    ]  # fmt: skip


def traffic(gpu: Gpu, size: float, times: int = 1) -> float:
    """Return the clocks in which so many bytes are read or written, so many times."""
    return gpu.seconds(times * size, size) * gpu.clock


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
    visits = blocks * row_tiles  # of a tile of rows; on the diagonal it begins with its own columns
    tiles = strip / columns * strips * (strips * row_tiles + 1) / 2
    # Columns are copied only when the rows that are kept are there.
    loads = 2 if row["keeps_rows"] == "True" else 1
    start = loads * gpu.cache_latency + copy(row, gpu, min(rows, strip))
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
    # A wave begins with its tiles of rows, and has tiles with positives.
    ends = (waves + (at_once > 0)) * (gpu.cache_latency + min(tiles, rows // columns) * rare(row))
    ends += (waves * resident + at_once) * copy(row, gpu, rows)
    partial = traffic(gpu, blocks * rows * int(row["dim"]) * 4)
    return Launch("backward", "backward", blocks, tiles * per_tile / busy + ends + partial)
