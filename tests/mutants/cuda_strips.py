"""Faults of the CUDA kernels where blocks share the work of a row, and results are reduced."""

from __future__ import annotations

from tests.mutants.fault import Fault

STRIPS = [
    Fault(
        "strips: one place for the partial gradients of all",
        "csrc/cuda/backward.cuh",
        "strip * rows.size() + first_row - rows.begin + row",
        "first_row - rows.begin + row",
    ),
    Fault(
        "strips: with the columns of the next one",
        "csrc/cuda/backward.cuh",
        "first_column + size;",
        "first_column + 2 * size;",
    ),
    Fault(
        "strips: columns past the last",
        "csrc/cuda/backward.cuh",
        "end_column < end ? end_column : end",
        "end_column",
    ),
    Fault(
        "strips: a tile of rows for every block",
        "csrc/cuda/backward.cuh",
        "block / strips * C::kRows",
        "block * C::kRows",
    ),
    Fault(
        "strips: partial gradients of rows past the last",
        "csrc/cuda/backward.cuh",
        "        if (first_row + row >= to_int(rows.end)) continue;\n",
        "",
    ),
    Fault(
        "strips: partial gradients of the padding",
        "csrc/cuda/backward.cuh",
        "          if (column_of(d, 0) >= stride) continue;\n",
        "",
    ),
    Fault(
        "strips: 32-bit offset of a partial gradient",
        "csrc/cuda/backward.cuh",
        "partial = side.partial + place * stride;",
        "partial = side.partial + static_cast<int>(place) * stride;",
    ),
    Fault(
        "strips: the last is empty",
        "csrc/cuda/strips.h",
        "static_cast<int>(divide_up(column_tiles, tiles))",
        "static_cast<int>(divide_up(column_tiles, tiles) + 1)",
    ),
    Fault(
        "strips: those of few rows as large as those of many",
        "csrc/cuda/strips.h",
        "fine <= tile.rows ? fine : cut(grid.max_strips, tile.rows)",
        "cut(grid.max_strips, tile.rows)",
    ),
    Fault(
        "gradient: the last partial one not added",
        "csrc/cuda/gradient.cuh",
        "strip < strips; ++strip",
        "strip < strips - 1; ++strip",
    ),
    Fault(
        "gradient: half of a row's lanes not summed",
        "csrc/cuda/gradient.cuh",
        "lanes = kLanes / 2; lanes >= 1",
        "lanes = kLanes / 4; lanes >= 1",
    ),
    Fault(
        "gradient: sums over the lanes of other rows, too",
        "csrc/cuda/gradient.cuh",
        "lanes = kLanes / 2; lanes >= 1",
        "lanes = 16; lanes >= 1",
    ),
    Fault(
        "gradient: of a positive that is not there",
        "csrc/cuda/gradient.cuh",
        "there ? positives_.weight(i_, positive, similarity) * factor : 0.0f",
        "positives_.weight(i_, positive, similarity) * factor",
    ),
    Fault(
        "gradient: rows of any D are aligned",
        "csrc/cuda/gradient.cuh",
        "if (p_.rows.dim % 4 == 0) {",
        "if (true) {",
    ),
    Fault(
        "gradient: stored past D",
        "csrc/cuda/gradient.cuh",
        "if (first + e < p_.rows.dim) out[e]",
        "out[e]",
    ),
    Fault(
        "sum: no barrier between the warps' sums and their sum",
        "csrc/cuda/block.cuh",
        "  sync_threads();\n  double sum = 0;",
        "  double sum = 0;",
    ),
    Fault(
        "sum: of half of each warp",
        "csrc/cuda/block.cuh",
        "lanes >= 1; lanes /= 2) value += shuffle",
        "lanes >= 2; lanes /= 2) value += shuffle",
    ),
    Fault(
        "terms: every warp has its own largest gradient",
        "csrc/cuda/block.cuh",
        "value = fmaxf(value, shared_load(0, warp));",
        "(void)shared_load(0, warp);",
    ),
]
