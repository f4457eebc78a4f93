"""Into how many blocks the fused CUDA kernels are cut: csrc/cuda/strips.h in Python, for the model.

tests/cuda_host/test_launches.cpp and tests/benchmarks/gpu/test_model.py have the same table.
"""

from __future__ import annotations

import math

MAX_STRIPS = 64
FEW_STRIPS = 16
MULTIPROCESSORS = 128


def forward_strip(m: int, rows: int, columns: int) -> int:
    """Return the rows of a strip of M rows in the forward pass; tiles are rows x columns."""
    fine = math.ceil(m / (FEW_STRIPS * columns)) * columns
    return fine if fine <= rows else math.ceil(m / (MAX_STRIPS * rows)) * rows


def backward_strips(m: int, rows: int, columns: int) -> tuple[int, int]:
    """Return the number of strips of M columns in the backward pass, and the tiles of each."""
    row_tiles, column_tiles = math.ceil(m / rows), math.ceil(m / columns)
    wave = 2 * MULTIPROCESSORS

    def time(strips: int) -> int:
        waves, rest = divmod(row_tiles * strips, wave)
        last = 0 if rest == 0 else 4 if rest <= MULTIPROCESSORS else 6
        return (math.ceil(column_tiles / strips) + 2) * (6 * waves + last)

    most = min(max(4 * wave // row_tiles, 1), column_tiles)
    tiles = math.ceil(column_tiles / min(range(1, most + 1), key=time))
    return math.ceil(column_tiles / tiles), tiles
