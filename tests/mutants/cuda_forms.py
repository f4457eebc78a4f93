"""Faults of the CUDA kernels in what other losses than NT-Xent need.

Rectangles, several positives, labels, pairs that are left out, owned rows; the sigmoid loss, and
by-products.
"""

from __future__ import annotations

from tests.mutants.fault import Fault

FORMS = [
    Fault(
        "pairing: of two shifts one",
        "csrc/cuda/kernels_rows.cu",
        "for (int k = 0; k < p.pairing.shifts; ++k)",
        "for (int k = 0; k < p.pairing.shifts && k < 1; ++k)",
    ),
    Fault(
        "pairing: shifts of the columns not turned round",
        "csrc/common/pairing.h",
        "other.shift[k] = -shift[k];",
        "other.shift[k] = shift[k];",
    ),
    Fault(
        "pairing: a shift out of the matrix wraps in 32 bits",
        "csrc/operands.h",
        "      if (shift <= -rows || shift >= problem_.columns.size()) continue;\n",
        "",
    ),
    Fault(
        "pairing: a row of y counts itself among its positives",
        "csrc/cuda/host.h",
        "if (operands.problem().same()) return among(columns, columns) - 1;",
        "if (operands.problem().same()) return among(columns, columns);",
    ),
    Fault(
        "pairing: labels compared as floats",
        "csrc/cuda/row_sums.cuh",
        "column_label[column] == label",
        "float(column_label[column]) == float(label)",
    ),
    Fault(
        "pairing: positives past the last column",
        "csrc/cuda/pair_weights.cuh",
        "          if (!inside || p_.pairing.label[i]",
        "          if (i >= end_row_ || p_.pairing.label[i]",
    ),
    Fault(
        "pairing: pairs with other positives weigh as the only one",
        "csrc/cuda/pair_weights.cuh",
        "&& terms.positives[i] == 1 && terms.positives[j] == 1)",
        "&& (terms.positives[i] == 1 || terms.positives[j] == 1))",
    ),
    Fault(
        "terms: pairs that are left out stay in the sum",
        "csrc/cuda/forward.cuh",
        "      if (p_.pairing.leaves_out()) leave_out(x, first_column);\n",
        "",
    ),
    Fault(
        "terms: weights of pairs that are left out",
        "csrc/cuda/pair_weights.cuh",
        "    if (p_.pairing.leaves_out()) clear_left_out(w, first_column);\n",
        "",
    ),
    Fault(
        "terms: gradient of the lse not in the weights",
        "csrc/cuda/kernels_rows.cu",
        "static_cast<float>((grad + grad_lse) * exp2",
        "static_cast<float>(grad * exp2",
    ),
    Fault(
        "pairing: weights without positives",
        "csrc/cuda/kernels_rows.cu",
        "return positives_of_row(p, i) > 0 ? p.grad_loss[i * p.grad_loss_stride] : 0.0f;",
        "return p.grad_loss[i * p.grad_loss_stride];",
    ),
    Fault(
        "grid: strips of columns counted as those of rows",
        "csrc/cuda/forward.cuh",
        "return {block / columns, block % columns, false};",
        "return {block / rows, block % rows, false};",
    ),
    Fault(
        "grid: columns begin with the first row",
        "csrc/cuda/forward.cuh",
        "to_int(columns.begin) + strips_.b",
        "to_int(rows.begin) + strips_.b",
    ),
    Fault(
        "grid: sums of columns as long as those of rows",
        "csrc/cuda/forward.cuh",
        "int64_t{slot} * p_.problem.columns.size()",
        "int64_t{slot} * p_.problem.rows.size()",
    ),
    Fault(
        "sides: columns meet columns",
        "csrc/cuda/pairing.cuh",
        "transposed ? problem.transposed() : problem",
        "transposed ? Problem{problem.columns, problem.columns} : problem",
    ),
    Fault(
        "sides: columns have the shifts of rows",
        "csrc/cuda/pairing.cuh",
        "transposed ? pairing.transposed() : pairing",
        "pairing",
    ),
    Fault(
        "sides: columns have the strips of rows, forward",
        "csrc/cuda/forward.cuh",
        "return {block / rows, block % rows, true};",
        "return {block / columns, block % columns, true};",
    ),
    Fault(
        "sides: sums of columns stored as those of rows",
        "csrc/cuda/row_sums.cuh",
        "float* side_sum = transposed ? p.column_sums.sum : p.row_sums.sum;",
        "float* side_sum = p.row_sums.sum;",
    ),
    Fault(
        "sides: a pair that is visited once is sought at its column",
        "csrc/cuda/kernels_rows.cu",
        "once ? i - shift : i",
        "i",
    ),
    Fault(
        "sides: losses of columns from the sums of rows",
        "csrc/cuda/kernels_rows.cu",
        "column ? p.columns : p.rows;",
        "column ? FinishSide{p.columns.side, p.columns.counted, p.rows.slots, p.rows.shared_slots, "
        "p.rows.sums} : p.rows;",
    ),
    Fault(
        "sides: blocks of columns counted with those of rows, backward",
        "csrc/cuda/backward.cuh",
        "  if (transposed) block -= blocks;\n",
        "",
    ),
    Fault(
        "sides: gradient of columns with the strips of rows",
        "csrc/cuda/gradient.cuh",
        "transposed ? p_.of_columns.strips.count : p_.of_rows.strips.count",
        "p_.of_rows.strips.count",
    ),
    Fault(
        "sides: partial gradients of columns over those of rows",
        "csrc/cuda/backward.cuh",
        "transposed ? p_.of_columns.partial : p_.of_rows.partial",
        "p_.of_rows.partial",
    ),
    Fault(
        "sides: the gradients of columns begin with the rows",
        "csrc/cuda/params.h",
        "intersect(transposed ? problem.columns : problem.rows, wanted)",
        "intersect(transposed ? Range{0, problem.columns.end} : problem.rows, wanted)",
    ),
    Fault(
        "radial sum: by the first block that comes",
        "csrc/cuda/radial_sum.cuh",
        "!is_last_block(p.blocks_done)",
        "(is_last_block(p.blocks_done), block_id() != 0)",
    ),
    Fault(
        "radial sum: blocks of the last step stay counted",
        "csrc/cuda/kernels_rows.cu",
        "    *p.blocks_done = 0;\n",
        "",
    ),
    Fault(
        "transposed gradient: its radial part is the temperature's, too",
        "csrc/cuda/backward.cpp",
        "const Range rows = intersect(problem.rows, wanted);\n  const double",
        "const Range rows = wanted;\n  const double",
    ),
    Fault(
        "owned rows: weights without the others' terms",
        "csrc/cuda/backward.cpp",
        "    if (whole.same()) whole.rows = whole.columns;\n",
        "",
    ),
    Fault(
        "sigmoid: positives stay in the sums",
        "csrc/cuda/forward.cuh",
        "counts(i, j) && (Sums::kSumsPositives || !pairing().positive(i, j))",
        "counts(i, j)",
    ),
    Fault(
        "sigmoid: small powers are lost beside 1",
        "csrc/cuda/sigmoid.cuh",
        "return {ratio * power + fmaxf",
        "return {log2f(1.0f + power) + fmaxf",
    ),
    Fault(
        "sigmoid: that of the absolute value",
        "csrc/cuda/sigmoid.cuh",
        "x < 0.0f ? power * inverse : inverse",
        "inverse",
    ),
    Fault(
        "sigmoid: a scale in device memory is not checked",
        "csrc/cuda/sigmoid.cuh",
        "checked_value_of(scalars.scale)",
        "value_of(scalars.scale)",
    ),
    Fault(
        "sigmoid: bias with the sign of a shift",
        "csrc/cuda/sigmoid_sums.cuh",
        "return -exponents_.bias;",
        "return exponents_.bias;",
    ),
    Fault(
        "sigmoid: half of a row's lanes not joined",
        "csrc/cuda/sigmoid_sums.cuh",
        "lanes <= 2; lanes *= 2) {  // the four",
        "lanes <= 1; lanes *= 2) {  // the four",
    ),
    Fault(
        "sigmoid: rows past the last are stored",
        "csrc/cuda/sigmoid_sums.cuh",
        "lane_id() % 4 != 0 || row >= rows",
        "lane_id() % 4 != 0 || row > rows",
    ),
    Fault(
        "sigmoid: positives weigh twice",
        "csrc/cuda/sigmoid_weights.cuh",
        "    if (meets_special<C>(pairing(), first_row_, first_column)) clear_pos",
        "    if (false) clear_pos",
    ),
    Fault(
        "sigmoid: the transposed problem has no weights",
        "csrc/cuda/sigmoid_weights.cuh",
        "(weight_[m][e / 2] + weight[e % 2])",
        "weight_[m][e / 2]",
    ),
    Fault(
        "sigmoid: a positive's weight without its bias",
        "csrc/cuda/sigmoid_weights.cuh",
        "similarity * exponents_.scale + exponents_.bias;",
        "similarity * exponents_.scale;",
    ),
    Fault(
        "sigmoid: columns have the gradients of rows",
        "csrc/cuda/kernels_sigmoid_rows.cu",
        "i < p.rows ? p.grad_loss[i * p.grad_loss_stride] : 0.0f",
        "p.grad_loss[i % p.rows * p.grad_loss_stride]",
    ),
    Fault(
        "sigmoid: positives of columns that are not there",
        "csrc/cuda/kernels_sigmoid_rows.cu",
        "if (!p.problem.columns.contains(",
        "if (false && !p.problem.columns.contains(",
    ),
    Fault(
        "sigmoid: the scale's gradient has the columns' part, too",
        "csrc/cuda/sigmoid.cpp",
        ".count = static_cast<int>(rows),\n             .divisor",
        ".count = static_cast<int>(radial.size(0)),\n             .divisor",
    ),
    Fault(
        "stats: of equal negatives the last",
        "csrc/cuda/row_stats.cuh",
        "if (!(x > hardest)) return;",
        "if (!(x >= hardest)) return;",
    ),
    Fault(
        "stats: of equal negatives in two lanes the last",
        "csrc/cuda/row_stats.cuh",
        "other.hardest_index < hardest_index",
        "other.hardest_index > hardest_index",
    ),
    Fault(
        "stats: of equal negatives in two strips the last",
        "csrc/cuda/kernels_rows.cu",
        "(value == hardest && at < index)",
        "(value == hardest && at > index)",
    ),
    Fault(
        "stats: positives are negatives, too",
        "csrc/cuda/forward.cuh",
        "if (inside && pairing().positive(i, j)) value = -INFINITY;",
        "(void)inside;",
    ),
    Fault(
        "stats: weighted sum not rescaled when the shift rises",
        "csrc/cuda/row_stats.cuh",
        "    weighted *= factor;\n",
        "",
    ),
    Fault(
        "stats: weighted sums of strips relative to their own shifts",
        "csrc/cuda/kernels_rows.cu",
        "sums.weighted[place] * exp2(row.of.sums.max[place] - shift)",
        "sums.weighted[place]",
    ),
    Fault(
        "stats: infinity of pairs that do not count",
        "csrc/cuda/row_stats.cuh",
        "power * fmaxf(x, kLeastExponent)",
        "power * x",
    ),
    Fault(
        "stats: pairs of the padding are near",
        "csrc/cuda/row_stats.cuh",
        "exp2_fast(x * near_scale - kNearShift)",
        "exp2_fast(fmaxf(x, 0.0f) * near_scale - kNearShift)",
    ),
    Fault(
        "stats: hardest negative of the tile's first columns",
        "csrc/cuda/row_stats.cuh",
        "first_column + column_of(n, e), near_scale_",
        "column_of(n, e), near_scale_",
    ),
    Fault(
        "temperature on the device: kernels of both kinds run",
        "csrc/cuda/exponents.cuh",
        "  if (!exponents.undecided) return true;\n",
        "  return true;\n",
    ),
    Fault(
        "temperature on the device: kernels of the wrong kind run",
        "csrc/cuda/exponents.cuh",
        "scale_of(exponents)) == exponents.shared_shift",
        "scale_of(exponents)) != exponents.shared_shift",
    ),
    Fault(
        "temperature on the device: negative ones allowed",
        "csrc/cuda/exponents.cuh",
        "value >= kSmallestScale && value <= kLargestScale",
        "value <= kLargestScale",
    ),
    Fault(
        "temperature on the device: weights with the shift of the other kind",
        "csrc/cuda/kernels_rows.cu",
        "shares_shift(p.exponents, compute_scale(p.exponents))",
        "p.exponents.shared_shift",
    ),
    Fault(
        "temperature on the device: losses from the sums of the other kind",
        "csrc/cuda/kernels_rows.cu",
        "shares_shift(p.exponents, scale_of(p.exponents))",
        "p.exponents.shared_shift",
    ),
]
