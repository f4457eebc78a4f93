"""Faults of the CUDA kernels; their tests on the CPU find them, under AddressSanitizer."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

from tests.mutants.fault import Fault
from tests.tools import CMAKE, must_succeed

SECONDS = 900  # a copy without faults takes about one minute per precision
PRECISIONS = ("bf16", "tf32x3", "fp16", "tf32")
COMPLAINTS = (  # of the simulated GPU, of the test itself, and of the sanitizers
    r"what\(\):\s+(.*)",
    r"failed: (.*) with (.*)",
    r"runtime error: (.*)",
    r"SUMMARY: (\w+: [\w-]+)",
)

FAULTS = [
    Fault(
        "no barrier between copy and use",
        "csrc/cuda/mainloop_mma.cuh",
        "      sync_threads();\n      if (column",
        "      if (column",
    ),
    Fault(
        "no barrier before the last column sums",
        "csrc/cuda/forward.cuh",
        "    sync_threads();\n    add_column_sums(last_stage, previous);",
        "    add_column_sums(last_stage, previous);",
    ),
    Fault(
        "one copy too few waited for",
        "csrc/cuda/mainloop_mma.cuh",
        "copy_async_wait<0>",
        "copy_async_wait<1>",
    ),
    Fault(
        "stages not exchanged",
        "csrc/cuda/mainloop_mma.cuh",
        "      stage ^= 1;\n",
        "",
    ),
    Fault(
        "no barrier before the gradient overwrites tiles",
        "csrc/cuda/backward.cuh",
        "    sync_threads();  // the tiles that lie there may still be read\n",
        "",
    ),
    Fault(
        "right fragment's registers swapped",
        "csrc/cuda/mainloop_mma.cuh",
        "const auto b1 = Element::b_from_memory(raw[2], raw[3]);",
        "const auto b1 = Element::b_from_memory(raw[3], raw[2]);",
    ),
    Fault(
        "half weights: rows of a fragment swapped",
        "csrc/cuda/elements.cuh",
        "Derived::pack(w[1][0], w[1][1]), Derived::pack(w[1][2], w[1][3])",
        "Derived::pack(w[1][2], w[1][3]), Derived::pack(w[1][0], w[1][1])",
    ),
    Fault(
        "float weights: columns in the accumulators' order",
        "csrc/cuda/elements.cuh",
        "{float_bits(w[0][0]), float_bits(w[0][2]), float_bits(w[0][1]), float_bits(w[0][3])}",
        "{float_bits(w[0][0]), float_bits(w[0][1]), float_bits(w[0][2]), float_bits(w[0][3])}",
    ),
    Fault(
        "low part of 3xTF32 dropped",
        "csrc/cuda/elements.cuh",
        "    mma_tf32(d, a.low, b.high);\n",
        "",
    ),
    Fault(
        "units of a row not where they were stored",
        "csrc/cuda/mainloop_mma.cuh",
        "unit_offset<C>(lane % 8 + 8 * (lane / 16), lane / 8 % 2)",
        "unit_offset<C>(lane % 8 + 8 * (lane / 16), lane / 16)",
    ),
    Fault(
        "last rows not guarded",
        "csrc/cuda/mainloop_mma.cuh",
        "source, row + pass < end)",
        "source, row + pass <= end)",
    ),
    Fault(
        "padding of D not zero",
        "csrc/cuda/mainloop_mma.cuh",
        "unit * C::kUnitElements < rows.stride ? end_row - first_row : 0",
        "end_row - first_row",
    ),
    Fault(
        "address past the last row",
        "csrc/cuda/mainloop_mma.cuh",
        "row + pass + kPassRows < end ? int64_t{kPassRows} * rows.stride : 0",
        "int64_t{kPassRows} * rows.stride",
    ),
    Fault(
        "address past the last term",
        "csrc/cuda/mainloop_mma.cuh",
        "(j < end_column ? j : first_column)",
        "j",
    ),
    Fault(
        "32-bit offset of a row",
        "csrc/cuda/mainloop_mma.cuh",
        "int64_t{first_row + row} *",
        "(first_row + row) *",
    ),
    Fault(
        "32-bit offset of a row of the result",
        "csrc/cuda/backward.cuh",
        "int64_t{i} *",
        "i *",
    ),
    Fault(
        "row meets itself",
        "csrc/cuda/forward.cuh",
        "? i < j : !(p_.pairing.skip_self && i == j)",
        "? i <= j : true",
    ),
    Fault(
        "columns past the last count",
        "csrc/cuda/forward.cuh",
        "const bool inside = i < end_row_ && j < end_column_;\n    return",
        "const bool inside = i < end_row_;\n    return",
    ),
    Fault(
        "edge not seen",
        "csrc/cuda/forward.cuh",
        "first_row_ + C::kRows > end_row_ || first_column + C::kColumns > end_column_",
        "first_row_ + C::kRows > end_row_",
    ),
    Fault(
        "column sums left out",
        "csrc/cuda/forward.cuh",
        "      if (previous >= 0) add_column_sums(stage ^ 1, previous);\n",
        "",
    ),
    Fault(
        "column sums of a strip's own pairs written over its row sums",
        "csrc/cuda/forward.cuh",
        "own_pairs ? p_.row_strips.count : strips_.a",
        "strips_.a",
    ),
    Fault(
        "column sums begin with what was there",
        "csrc/cuda/forward.cuh",
        "first_row_ == first_strip_row_ ? sum : ",
        "",
    ),
    Fault(
        "columns exchanged between lanes",
        "csrc/cuda/row_sums.cuh",
        "odd ? column[0] :",
        "!odd ? column[0] :",
    ),
    Fault(
        "half of a row's lanes not joined",
        "csrc/cuda/row_sums.cuh",
        "const float other_sum = shuffle_xor(sum, lanes);",
        "const float other_sum = (lanes == 1) * shuffle_xor(sum, lanes);",
    ),
    Fault(
        "sum not rescaled when the shift rises",
        "csrc/cuda/row_sums.cuh",
        "sum_[m][half] * exp2_fast(max_[m][half] - largest)",
        "sum_[m][half]",
    ),
    Fault(
        "shift dropped",
        "csrc/cuda/forward.cuh",
        "column_factor[e % 2] - sums_.shift(p_)",
        "column_factor[e % 2]",
    ),
    Fault(
        "strips' own pairs count once",
        "csrc/cuda/kernels_rows.cu",
        "for (int slot = 0; slot < p.slots; ++slot) sum += p.sum",
        "for (int slot = 0; slot < p.slots - 1; ++slot) sum += p.sum",
    ),
    Fault(
        "positive one row off",
        "csrc/cuda/backward.cuh",
        "i + p_.pairing.shift[k];",
        "i + p_.pairing.shift[k] - 1;",
    ),
    Fault(
        "positive counts as a negative too",
        "csrc/cuda/pair_weights.cuh",
        "      clear |= inside && positive_weight(p_, i, j).replaces;\n",
        "      (void)inside;\n",
    ),
    Fault(
        "gradient of the column's loss left out",
        "csrc/cuda/pair_weights.cuh",
        "(weight_[m][e / 2] + weight[e % 2])",
        "weight_[m][e / 2]",
    ),
    Fault(
        "weights without the columns' factors",
        "csrc/cuda/pair_weights.cuh",
        "sum * factor[e % 2]",
        "sum",
    ),
    Fault(
        "gain not undone",
        "csrc/cuda/backward.cuh",
        "shared_load(grad, k) * inv_gain",
        "shared_load(grad, k)",
    ),
    Fault(
        "radial part kept",
        "csrc/cuda/backward.cuh",
        "projected ? radial * factor : 0.0f",
        "0.0f",
    ),
    Fault(
        "rows shorter than eps projected too",
        "csrc/cuda/backward.cuh",
        "p_.inv_norm != nullptr && inv_norm < p_.inv_eps",
        "p_.inv_norm != nullptr",
    ),
    Fault(
        "infinity of pairs that do not count",
        "csrc/cuda/pair_weights.cuh",
        "fminf(exponent, 0.0f)",
        "exponent",
    ),
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
        "if (summed && terms.positives[i] == 1 && terms.positives[j] == 1) {",
        "if (summed && (terms.positives[i] == 1 || terms.positives[j] == 1)) {",
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
        "terms: a positive left out of the denominator keeps its softmax",
        "csrc/cuda/pair_weights.cuh",
        "return {!summed, -(terms.share[i] + terms.share[j])};",
        "return {false, -(terms.share[i] + terms.share[j])};",
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
        "return p.positives[i] > 0 ? p.grad_loss[i * p.grad_loss_stride] : 0.0f;",
        "return p.grad_loss[i * p.grad_loss_stride];",
    ),
    Fault(
        "grid: strips of columns counted as those of rows",
        "csrc/cuda/forward.cuh",
        "strip_pair(block_id(), p.column_strips.count, triangle_)",
        "strip_pair(block_id(), p.row_strips.count, triangle_)",
    ),
    Fault(
        "grid: columns begin with the first row",
        "csrc/cuda/forward.cuh",
        "to_int(p.problem.columns.begin) + strips_.b",
        "to_int(p.problem.rows.begin) + strips_.b",
    ),
    Fault(
        "grid: sums of columns as long as those of rows",
        "csrc/cuda/forward.cuh",
        "int64_t{slot} * p_.problem.columns.size()",
        "int64_t{slot} * p_.problem.rows.size()",
    ),
    Fault(
        "grid: columns have no losses of their own with shifts per row",
        "csrc/cuda/forward.cpp",
        "    run(problem.transposed(), operands.pairing().transposed());",
        "    run(problem.transposed(), operands.pairing());",
    ),
    Fault(
        "transposed gradient: of the rows again",
        "csrc/cuda/backward.cpp",
        "if (!problem.same()) run(problem.transposed(), operands.pairing().transposed());",
        "if (!problem.same()) run({problem.columns, problem.columns}, operands.pairing());",
    ),
    Fault(
        "transposed gradient: written to the rows'",
        "csrc/cuda/backward.cpp",
        "problem.rows.begin - wanted.begin;\n    kernels",
        "0 * problem.rows.begin;\n    kernels",
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
        "counts(i, j) && (Sums::kSumsPositives || !p_.pairing.positive(i, j))",
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
        "allowed ? scale / kLn2 : NAN",
        "scale / kLn2",
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
        "    if (meets_special<C>(p_.pairing, first_row_, first_column)) clear_pos",
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
        "-sigmoid(-x - exponents_.bias)",
        "-sigmoid(-x)",
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
        "radial.narrow(0, 0, rows).sum",
        "radial.sum",
    ),
    Fault(
        "stats: of equal negatives the last",
        "csrc/cuda/row_stats.cuh",
        "if (!(x[m][n][e] > row.hardest)) continue;",
        "if (!(x[m][n][e] >= row.hardest)) continue;",
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
        "if (!(p.sums.hardest[place] > hardest)) continue;",
        "if (!(p.sums.hardest[place] >= hardest)) continue;",
    ),
    Fault(
        "stats: positives are negatives, too",
        "csrc/cuda/forward.cuh",
        "if (inside && p_.pairing.positive(i, j)) value = -INFINITY;",
        "(void)inside;",
    ),
    Fault(
        "stats: weighted sum not rescaled when the shift rises",
        "csrc/cuda/row_stats.cuh",
        "      weighted *= factor;\n",
        "",
    ),
    Fault(
        "stats: weighted sums of strips relative to their own shifts",
        "csrc/cuda/kernels_rows.cu",
        "p.sums.weighted[place] * exp2(pass.max[place] - shift)",
        "p.sums.weighted[place]",
    ),
    Fault(
        "stats: infinity of pairs that do not count",
        "csrc/cuda/row_stats.cuh",
        "power * fmaxf(x[m][n][e], kLeastExponent)",
        "power * x[m][n][e]",
    ),
    Fault(
        "stats: pairs of the padding are near",
        "csrc/cuda/row_stats.cuh",
        "exp2_fast(x[m][n][e] * near_scale_ - kNearShift)",
        "exp2_fast(fmaxf(x[m][n][e], 0.0f) * near_scale_ - kNearShift)",
    ),
    Fault(
        "stats: hardest negative of the tile's first columns",
        "csrc/cuda/row_stats.cuh",
        "row.hardest_index = first_column + column_of(n, e);",
        "row.hardest_index = column_of(n, e);",
    ),
]


def first_failure(folder: Path) -> str | None:
    """Build a copy's test and return what it says first, with the precision, or None."""
    build = folder / "build"
    if not build.exists():
        configure = [CMAKE, "-S", str(folder), "-B", str(build), "-DSIMCLR_SANITIZE=ON"]
        must_succeed([*configure, f"-DPython_EXECUTABLE={sys.executable}"])
    tests = ("test_sigmoid", "test_stats", "test_contrastive", "test_fused")  # the quick ones first
    must_succeed([CMAKE, "--build", str(build), "--parallel", "2", "--target", *tests])
    for precision, test in itertools.product(PRECISIONS, tests):
        try:
            result = subprocess.run(
                [str(build / "tests" / "cuda_host" / test), precision],
                env={"ASAN_OPTIONS": "detect_leaks=0"},
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"{precision}: hung for {SECONDS} s"
        if result.returncode != 0:
            return f"{precision}: {_summary(result.stderr)}"
    return None


def _summary(output: str) -> str:
    """Return the first error message, without addresses and paths."""
    for pattern in COMPLAINTS:
        if (match := re.search(pattern, output)) is not None:
            return ": ".join(match.groups())
    return output[-200:]
