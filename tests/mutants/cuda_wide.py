"""Faults of the CUDA kernels for wide rows, whose products are in device memory."""

from __future__ import annotations

from tests.mutants.fault import Fault

WIDE = [
    Fault(
        "wide: a block's columns have the slot of another block",
        "csrc/cuda/wide_sums.cuh",
        "block.row_block() * side.size()",
        "block.column_block() * side.size()",
    ),
    Fault(
        "wide: no barrier before the columns' sums are joined",
        "csrc/cuda/wide_sums.cuh",
        "    sync_threads();\n    const int column",
        "    const int column",
    ),
    Fault(
        "wide: positives by labels summed in the memory of the powers",
        "csrc/cuda/wide_sums.cuh",
        "(terms, block, kPowersBytes)",
        "(terms, block, 0)",
    ),
    Fault(
        "wide: sum not rescaled when the shift rises",
        "csrc/cuda/wide_sums.cuh",
        "sum = sum * exp2_fast(max - largest) +",
        "sum = sum +",
    ),
    Fault(
        "wide: lanes keep the rows that they give away",
        "csrc/cuda/wide_lanes.cuh",
        "upper ? rows[r] : rows[r + kKept]",
        "upper ? rows[r + kKept] : rows[r]",
    ),
    Fault(
        "wide: pairs below the diagonal count",
        "csrc/cuda/wide_tile.cuh",
        "diagonal_ ? i < j :",
        "diagonal_ ? i != j :",
    ),
    Fault(
        "wide: edge not seen",
        "csrc/cuda/wide_tile.cuh",
        "!has_row(first_row_ + kRows - 1) || !has_column",
        "!has_column",
    ),
    Fault(
        "wide: pairs past the last column read",
        "csrc/cuda/wide_tile.cuh",
        "if (has_row(row(r)) && has_column(column(0))) {",
        "if (has_row(row(r))) {",
    ),
    Fault(
        "wide: a row's own factor not in the weights",
        "csrc/cuda/wide_weights.cuh",
        "    return sum * row.factor * column.factor;",
        "    return sum * column.factor;",
    ),
    Fault(
        "wide: a pair's weight for its row alone",
        "csrc/cuda/wide_weights.cuh",
        "exp2_fast(x) * (row.weight + column.weight)",
        "exp2_fast(x) * row.weight",
    ),
    Fault(
        "wide: weights of pairs that are left out",
        "csrc/cuda/wide_weights.cuh",
        "!p_.pairing.summed(i, j)) sum = 0.0f;",
        "!p_.pairing.summed(i, j)) sum += 0.0f;",
    ),
    Fault(
        "wide: a row's own factor not divided out again",
        "csrc/cuda/wide_gradient.cuh",
        "exp2i(-gain_exponent(*p_.terms.max_grad)) / factor",
        "exp2i(-gain_exponent(*p_.terms.max_grad))",
    ),
    Fault(
        "wide: half of a row's lanes not in its radial part",
        "csrc/cuda/wide_gradient.cuh",
        "lanes >= 1; lanes /= 2) radial",
        "lanes >= 2; lanes /= 2) radial",
    ),
    Fault(
        "wide: half of a diagonal block not visited",
        "csrc/cuda/wide.h",
        "      places.push_back({lower, lower, true});\n",
        "",
    ),
    Fault(
        "wide: columns of a rank's share have sums",
        "csrc/cuda/wide_forward.cpp",
        "const bool both = problem.has_column_results() && !triangle;",
        "const bool both = !triangle;",
    ),
    Fault(
        "wide: columns of a rank's share have gradients",
        "csrc/cuda/wide_backward.cpp",
        "problem.has_column_results() ? intersect(place.columns, wanted) : Range{0, 0}",
        "intersect(place.columns, wanted)",
    ),
    Fault(
        "wide: gradient of some of a tile's rows with the weights of its first",
        "csrc/cuda/wide_backward.cpp",
        "w.narrow(1, columns.begin - place.columns.begin, columns.size())",
        "w.narrow(1, 0, columns.size())",
    ),
    Fault(
        "wide: a positive of the sigmoid loss weighs twice",
        "csrc/cuda/wide_weights.cuh",
        "if (is_special_ && p_.pairing.positive(i, j)) return 0.0f;",
        "",
    ),
    Fault(
        "wide: by-products of earlier tiles forgotten",
        "csrc/cuda/wide_stats.cuh",
        "    total.join(row);\n",
        "    total = row;\n",
    ),
]
