"""Predicts how long a step of wide views takes: tiles of S that cuBLAS multiplies.

The products are counted with a share of the peak, or with the traffic of S where that takes longer;
the kernels between them with theirs; every launch has a start and a gap. Of bf16 or fp16 views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.gpu.model.figures import CUBLAS, GAP, SHORT, Gpu

SIDE = 4096  # kWideSide in csrc/cuda/products.h
# Rows, zeros, losses; terms, zeros, gradient: what each pass launches beside its tiles.
AROUND = 3
S_BYTES, W_BYTES = 4, 2  # of a similarity, and of its weight


@dataclass(frozen=True)
class Tiles:
    """The tiles of S that a pass visits.

    Attributes:
        count: Their number.
        pairs: Of all tiles together.
        largest: Bytes of the largest.
    """

    count: int
    pairs: float
    largest: float


def square(m: int) -> Tiles:
    """Return the tiles of M rows that are the columns, too: wide_places in csrc/cuda/wide.h."""
    if m <= SIDE // 2:
        return Tiles(1, float(m) ** 2, S_BYTES * float(m) ** 2)
    blocks = 2 * math.ceil(m / (2 * SIDE))
    above, side = blocks * (blocks - 1) // 2, m / blocks
    # One on the diagonal is cut into four, of which one is left out.
    return Tiles(above + 3 * blocks, (above + 0.75 * blocks) * side**2, S_BYTES * side**2)


def rectangle(rows: int, columns: int) -> Tiles:
    """Return the tiles of rows that are compared with other columns."""
    count = math.ceil(rows / SIDE) * math.ceil(columns / SIDE)
    return Tiles(count, float(rows) * columns, S_BYTES * min(rows, SIDE) * min(columns, SIDE))


def of_passes(gpu: Gpu, tiles: Tiles, rows: int, dim: int) -> dict[str, float]:
    """Return the milliseconds of the forward and of the backward pass, with gaps.

    Args:
        gpu: Where they run.
        tiles: What is visited.
        rows: Rows and columns that have a gradient.
        dim: D.
    """
    launch = SHORT.value + GAP.value
    stored = rows * dim * W_BYTES
    read_s = gpu.seconds(S_BYTES * tiles.pairs, tiles.largest)
    multiply = max(_product(gpu, tiles, dim), read_s)  # writes as much
    # Rows are read and stored; their gradients are added up in float and written.
    forward = multiply + read_s + gpu.seconds(2 * stored, stored)
    write_w = gpu.seconds(W_BYTES * tiles.pairs, tiles.largest)
    backward = multiply + read_s + write_w + 2 * _product(gpu, tiles, dim)
    backward += gpu.seconds(4 * rows * dim + 2 * stored, 4 * rows * dim)
    launches = {"forward": AROUND + 2 * tiles.count, "backward": AROUND + 4 * tiles.count}
    work = {"forward": forward, "backward": backward}
    return {of: 1e3 * work[of] + 1e-3 * launch * launches[of] for of in work}


def _product(gpu: Gpu, tiles: Tiles, dim: int) -> float:
    """Return the seconds of one product over all tiles."""
    return 2 * tiles.pairs * dim / (CUBLAS.value * gpu.peak)
