"""Faults of the CPU kernels and of the operators in Python; pytest finds them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.mutants.fault import Fault
from tests.tools import must_succeed

FirstFailure = Callable[[Path], "str | None"]

SECONDS = 900  # a copy without faults takes about one minute
TESTS = [  # first the one that finds most
    "tests/test_contrastive.py",
    "tests/test_accuracy.py",
    "tests/losses/test_nt_xent.py",
    "tests/test_ops.py",
    "tests/test_value_and_grad.py",
    "tests/test_autograd.py",
    "tests/test_products.py",
    "tests/test_half_products.py",
    "tests/test_guarded.py",
    "tests/losses/test_stats.py",
    "tests/losses/test_family.py",
]

FAULTS = [
    Fault(
        "tile one row off",
        "csrc/common/schedule.h",
        "return {rows_.begin + b * size / count_,",
        "return {rows_.begin + b * size / count_ + (b == 1),",
    ),
    Fault(
        "grid: a block of columns met one round late",
        "csrc/common/schedule.h",
        "const int64_t j = (i + round) % many_;",
        "const int64_t j = (i + round + (round == 1)) % many_;",
    ),
    Fault(
        "row that meets itself not masked",
        "csrc/cpu/similarities.cpp",
        "element(data, tile, i, i) = kMasked;",
        "(void)i;",
    ),
    Fault(
        "a tile kept in the place of another",
        "csrc/common/schedule.h",
        "return ((begin - rows_.begin) * count_ + size - 1) / size;",
        "return (begin - rows_.begin) * count_ / size;",
    ),
    Fault(
        "a small batch's gradient given away without its loss's",
        "csrc/autograd.cpp",
        "grad_z = saved[0].mul(grads[0]);",
        "grad_z = saved[0];",
    ),
    Fault(
        "padding not masked",
        "csrc/cpu/similarities.cpp",
        "std::fill(row + columns, row + data.columns, kMasked);",
        "",
    ),
    Fault(
        "label read past the end",
        "csrc/common/positives.h",
        "++of_label[pairing.label[i]];",
        "++of_label[pairing.label[i]];\n    of_label[pairing.label[part.end]] += 0;",
    ),
    Fault(
        "positive one column off",
        "csrc/common/pairing.h",
        "visit(i, i + shift[k]);",
        "visit(i, i + 1 < rows.end ? i + 1 + shift[k] : i + shift[k]);",
    ),
    Fault(
        "second shift left out",
        "csrc/common/pairing.h",
        "for (int k = 0; k < shifts; ++k) {\n      const Range rows",
        "for (int k = 0; k < shifts && k < 1; ++k) {\n      const Range rows",
    ),
    Fault(
        "a row its own positive by its label",
        "csrc/common/pairing.h",
        "if (counts(i, j)) visit(i, j);",
        "visit(i, j);",
    ),
    Fault(
        "pairs that are left out stay in the sum",
        "csrc/cpu/row_sums.h",
        "    leave_out(data, tile, pairing_);\n",
        "",
    ),
    Fault(
        "weights of pairs that are left out",
        "csrc/cpu/pair_weights.h",
        "    leave_out(data, tile, pairing_);\n",
        "",
    ),
    Fault(
        "gradient of the lse not in the weights",
        "csrc/cpu/pair_weights.h",
        "inv_t_ * (grad + grad_lse)",
        "inv_t_ * grad",
    ),
    Fault(
        "gradient of the lse not at the only positive",
        "csrc/cpu/pair_weights.h",
        "if (grad_lse != 0) single_[i] +=",
        "if (false) single_[i] +=",
    ),
    Fault(
        "a positive left out of the denominator weighs as a term",
        "csrc/cpu/pair_weights.h",
        "if (sums_positives && positives_[i] == 1",
        "if (positives_[i] == 1",
    ),
    Fault(
        "a confident positive of the sigmoid loss by subtraction",
        "csrc/cpu/sigmoid.cpp",
        "      s = -std::numeric_limits<T>::infinity();\n",
        "",
    ),
    Fault(
        "of equal hardest negatives the last tile's",
        "csrc/cpu/row_stats.h",
        "largest[k] == hardest_[i] && index < hardest_index_[i]",
        "largest[k] == hardest_[i]",
    ),
    Fault(
        "mean similarity not rescaled with the sum",
        "csrc/cpu/row_sums.h",
        "if (stats_ != nullptr) stats_->rescale(i, factor);",
        "",
    ),
    Fault(
        "positives of a row counted with itself",
        "csrc/common/positives.h",
        "const int64_t self = pairing.skip_self ? 1 : 0;",
        "const int64_t self = 0;",
    ),
    Fault(
        "positives of columns not summed",
        "csrc/cpu/row_sums.h",
        "if (problem_.has_column_results()) positive_sum_[j] += s;",
        "",
    ),
    Fault(
        "column sums not added",
        "csrc/cpu/row_sums.h",
        "if (columns) add_to(tile.columns, column_result);",
        "",
    ),
    Fault(
        "columns of a rank's share summed as rows",
        "csrc/common/pairing.h",
        "return symmetric() || !same();",
        "return true;",
    ),
    Fault(
        "several positives weighted as one",
        "csrc/cpu/pair_weights.h",
        "share_[i] = positives > 0 ? grad / positives : 0;",
        "share_[i] = grad;",
    ),
    Fault(
        "one of several positives taken for the only one",
        "csrc/cpu/pair_weights.h",
        "positives_[i] == 1 && positives_[j] == 1",
        "true",
    ),
    Fault(
        "a quarter of a diagonal tile not copied",
        "csrc/cpu/products.cpp",
        "simd::kernels<T>().transpose(tile.data +",
        "if (false) simd::kernels<T>().transpose(tile.data +",
    ),
    Fault(
        "gradients added to what was in memory",
        "csrc/cpu/row_gradients.h",
        "    std::fill(grad.data, grad.data + grad.rows * grad.columns, T(0));\n",
        "    (void)grad;\n",
    ),
    Fault(
        "gradient of the temperature without a block",
        "csrc/cpu/row_gradients.h",
        "radial_[part.begin - wanted_.begin] =",
        "radial_[0] =",
    ),
    Fault(
        "stored rows of bfloat16 without their remaining factors",
        "csrc/cpu/rows.h",
        "  rows.set_factors({0, z.size(0)});\n",
        "",
    ),
    Fault(
        "rows of bfloat16 without their remaining factors",
        "csrc/cpu/rows.h",
        "      rows.set_factors(part);\n",
        "",
    ),
    Fault(
        "column product not added",
        "csrc/cpu/gradients.h",
        "if (columns.size() > 0) {",
        "if (false) {",
    ),
    Fault(
        "gradient of columns taken of the columns themselves",
        "csrc/cpu/gradients.h",
        "s.products().add_columns(part, tile.rows,",
        "s.products().add_columns(part, tile.rows.size() == tile.columns.size() ? tile.columns\n"
        "                                                                       : tile.rows,",
    ),
    Fault(
        "temperature of a rectangle halved",
        "csrc/cpu/gradients.h",
        "const double times = s.problem().same() ? 2 : 1;",
        "const double times = 2;",
    ),
    Fault(
        "rows of 4 KiB beyond the first not multiplied",
        "csrc/cpu/products.cpp",
        "for (int64_t k = 0; k < w.columns; k += most) {",
        "for (int64_t k = 0; k < most; k += most) {",
    ),
    Fault(
        "only the last panel of a product kept",
        "csrc/cpu/products.cpp",
        "out.stride, d.begin > 0);",
        "out.stride, false);",
    ),
    Fault(
        "transposed rows one off in blocks that are cut",
        "csrc/cpu/products.cpp",
        "d * block.size() + rows.begin - block.begin,",
        "d * block.size() + (rows.begin > block.begin) + rows.begin - block.begin,",
    ),
    Fault(
        "ragged edge of what is turned dropped",
        "csrc/cpu/simd/kernels.inl",
        "const int64_t last_row = r + kSide > rows ? rows : r + kSide;",
        "const int64_t last_row = r + kSide > rows ? rows - 1 : r + kSide;",
    ),
    Fault(
        "one shift for all at any temperature",
        "csrc/cpu/similarities.cpp",
        "shared = 2 * scale * shift <= kSafeRange<T>;",
        "shared = true;",
    ),
    Fault(
        "own shifts: sum not rescaled when the shift rises",
        "csrc/cpu/row_sums.h",
        "      sum_[i] *= factor;\n",
        "",
    ),
    Fault(
        "logarithm of a single pair's power rounded",
        "csrc/cpu/row_sums.h",
        "const bool exact = positives == 1 && alone && pairing_.sums_positives();",
        "const bool exact = false;",
    ),
    Fault(
        "tail of the dot product dropped",
        "csrc/cpu/simd/kernels.inl",
        "for (; d < dim; ++d) total +=",
        "for (; d < dim - 1; ++d) total +=",
    ),
    Fault(
        "rows after the last group of four dropped",
        "csrc/cpu/simd/kernels.inl",
        "for (; r < tile.rows; ++r) {",
        "for (; r < tile.rows - 1; ++r) {",
    ),
    Fault(
        "zero rows divided by their norm",
        "csrc/cpu/simd/kernels.inl",
        "norm < eps ? eps : norm",
        "norm",
    ),
    Fault(
        "gradient of a zero row is 0",
        "csrc/cpu/simd/kernels.inl",
        "const T scale = inv_norm[r];",
        "const T scale = inv_norm[r] == inv_eps ? T(0) : inv_norm[r];",
    ),
    Fault(
        "radial part of the gradient kept",
        "csrc/cpu/simd/kernels.inl",
        "scale == inv_eps ? T(0) : static_cast<T>(radial)",
        "T(0)",
    ),
    Fault(
        "radial part of a row shorter than eps dropped",
        "csrc/cpu/simd/kernels.inl",
        "scale == inv_eps ? T(0) : static_cast<T>(radial)",
        "static_cast<T>(radial)",
    ),
    Fault(
        "1 / eps rounded otherwise in the backward pass",
        "csrc/cpu/simd/kernels.inl",
        "static_cast<T>(1.0 / eps);",
        "T(1) / static_cast<T>(eps);",
    ),
    Fault(
        "gradients of the views swapped",
        "simclr_ext/backends/ops.py",
        "grad_z[:n].to",
        "grad_z[-n:].to",
    ),
    Fault(
        "half of a block not multiplied with halves",
        "csrc/cpu/half_products.cpp",
        "if (range.contains(part.rows.begin)) found",
        "if (range.contains(part.rows.begin) && found.empty()) found",
    ),
    Fault(
        "halves: remaining factors of the rows not multiplied",
        "csrc/cpu/half_products.cpp",
        "factor(place.rows.begin), factor(place.columns.begin)",
        "factor(place.columns.begin), factor(place.columns.begin)",
    ),
    Fault(
        "halves: depth beyond one product of the micro-kernel lost",
        "csrc/cpu/half_products.cpp",
        "out, tile.stride, d > 0);",
        "out, tile.stride, false);",
    ),
    Fault(
        "halves: weights of an odd number of rows not padded",
        "csrc/cpu/simd/half.inl",
        "for (; c < to_stride; ++c) out[c] = 0;",
        "for (; c < to_stride; ++c) out[c] = 0x7fc0;",
    ),
    Fault(
        "halves: power of two of a row one too large",
        "csrc/cpu/rows.h",
        "return std::ldexp(1.0F, exponent - 1);",
        "return std::ldexp(1.0F, exponent + (exponent > 60 ? 80 : -1));",
    ),
    Fault(
        "halves: gradient left in the scale of the stored rows",
        "csrc/cpu/rows.h",
        "simd::half_kernels().widen(row + i * dim, dim, factor[i], to);",
        "simd::half_kernels().widen(row + i * dim, dim, 1, to);",
    ),
    Fault(
        "autograd: gradient of the second view taken from the first rows",
        "csrc/autograd.cpp",
        "grad_z.narrow(0, grad_z.size(0) - n, n)",
        "grad_z.narrow(0, 0, n)",
    ),
    Fault(
        "autograd: gradient of a mean not divided",
        "csrc/autograd.cpp",
        "grad_loss = grad_loss.div(rows);",
        "grad_loss = grad_loss.div(rows - 1);",
    ),
]


def build(folder: Path) -> None:
    """Compile a copy's operators into its package: what changed since the last time."""
    environment = {**os.environ, "SIMCLR_EXT_BUILD": "aot", "SIMCLR_EXT_CUDA": "0"}
    must_succeed([sys.executable, "setup.py", "build_ext", "--inplace"], folder, environment)


def first_failure(
    folder: Path, tests: Sequence[str] = TESTS, keyword: str = "not tiled"
) -> str | None:
    """Return the first test that fails in a copy of the project, or that it hung, or None.

    Args:
        folder: The copy.
        tests: Files of tests.
        keyword: Of the names of tests, as pytest has it.
    """
    build(folder)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", keyword]
    try:
        result = subprocess.run(
            [*command, *tests],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"hung for {SECONDS} s"
    if result.returncode == 0:
        return None
    lines = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if not lines:  # it must be a test that failed, and not pytest
        sys.exit(result.stdout + result.stderr)
    return lines[0].split(" - ")[0].removeprefix("FAILED ")
