"""Faults of the CUDA kernels; their tests on the CPU find them, under AddressSanitizer."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

from tests.mutants.cuda_forms import FORMS
from tests.mutants.cuda_strips import STRIPS
from tests.mutants.cuda_wide import WIDE
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
        "      copy_async_wait<0>",
        "      copy_async_wait<1>",
    ),
    Fault(
        "no barrier before rows are kept",
        "csrc/cuda/mainloop_mma.cuh",
        "    sync_threads();\n    rows.load(kRowsOffset);",
        "    rows.load(kRowsOffset);",
    ),
    Fault(
        "columns copied over rows that others have yet to keep",
        "csrc/cuda/mainloop_mma.cuh",
        "    rows.load(kRowsOffset);\n    sync_threads();",
        "    rows.load(kRowsOffset);",
    ),
    Fault(
        "kept rows: the first accumulator's for all",
        "csrc/cuda/mainloop_mma.cuh",
        "a[m] = kept_[step][m];",
        "a[m] = kept_[step][0];",
    ),
    Fault(
        "sums in the place of the rows that are kept",
        "csrc/cuda/config.cuh",
        "std::max(kRowsBytes, kStagesOffset + 2 * kStageBytes)",
        "kStagesOffset + 2 * kStageBytes",
    ),
    Fault(
        "rows kept before they are there",
        "csrc/cuda/mainloop_mma.cuh",
        "    copy_async_wait<0>();\n    sync_threads();\n    rows.load",
        "    sync_threads();\n    rows.load",
    ),
    Fault(
        "stages not exchanged",
        "csrc/cuda/mainloop_mma.cuh",
        "      stage ^= 1;\n",
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
        "{w[0][0], w[0][2], w[0][1], w[0][3]}",
        "{w[0][0], w[0][1], w[0][2], w[0][3]}",
    ),
    Fault(
        "low part of 3xTF32 dropped",
        "csrc/cuda/elements.cuh",
        "    mma_tf32(d, a.low, b.high);\n",
        "",
    ),
    Fault(
        "low part of 3xTF32 relative to a high part that is cut off",
        "csrc/cuda/elements.cuh",
        "bits_float(high & kUsedBits)",
        "bits_float(bits & kUsedBits)",
    ),
    Fault(
        "a NaN of 3xTF32 becomes a zero",
        "csrc/cuda/elements.cuh",
        "return fabsf(x) < INFINITY ? x : bits_float(0x7fc00000u);",
        "return x;",
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
        "32-bit offset of a positive",
        "csrc/cuda/gradient.cuh",
        "int64_t{i} * p_.rows.stride",
        "i * p_.rows.stride",
    ),
    Fault(
        "row meets itself",
        "csrc/cuda/forward.cuh",
        "    if (p_.pairing.skip_self) out.add_shift(tile, 0);\n",
        "",
    ),
    Fault(
        "pairs below the diagonal count",
        "csrc/cuda/forward.cuh",
        "triangle_ ? i : tile.first_column",
        "tile.first_column",
    ),
    Fault(
        "columns past the last count",
        "csrc/cuda/forward.cuh",
        "if (j < first || j >= end || out.has(m, n, e))",
        "if (j < first || end == tile.first_column || out.has(m, n, e))",
    ),
    Fault(
        "a lane's bits are those of its other row",
        "csrc/cuda/tile_bits.cuh",
        "c / 8 * 4 + 2 * half + c % 2",
        "c / 8 * 4 + 2 * (1 - half) + c % 2",
    ),
    Fault(
        "a lane has the columns of its neighbours",
        "csrc/cuda/tile_bits.cuh",
        "c < C::kColumns && c / 2 % 4 == static_cast<unsigned>(lane_id()) % 4",
        "c < C::kColumns",
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
        "      owned(total) = sum;\n",
        "      add_to_owned(total, sum);\n",
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
        "for (int slot = 0; slot < row.slots; ++slot) sum += sums.sum",
        "for (int slot = 0; slot < row.slots - 1; ++slot) sum += sums.sum",
    ),
    Fault(
        "positive one row off",
        "csrc/cuda/gradient.cuh",
        "i_ + pairing_of_side(p_.pairing, transposed).shift[k];",
        "i_ + pairing_of_side(p_.pairing, transposed).shift[k] - 1;",
    ),
    Fault(
        "positive counts as a negative too",
        "csrc/cuda/pair_weights.cuh",
        "if (positive_weight(p_, i, j).replaces) special.bits[m] |= bit;",
        "",
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
        "csrc/cuda/gradient.cuh",
        "sum[v][e] *= inv_gain;",
        "sum[v][e] *= 1.0f;",
    ),
    Fault(
        "radial part kept",
        "csrc/cuda/gradient.cuh",
        "projected ? radial * factor : 0.0f",
        "0.0f",
    ),
    Fault(
        "rows shorter than eps projected too",
        "csrc/cuda/gradient.cuh",
        "p_.inv_norm != nullptr && inv_norm < p_.inv_eps",
        "p_.inv_norm != nullptr",
    ),
    Fault(
        "infinity of pairs that do not count",
        "csrc/cuda/pair_weights.cuh",
        "fminf(exponent, 0.0f)",
        "exponent",
    ),
    *STRIPS,
    *FORMS,
    *WIDE,
]


def first_failure(folder: Path) -> str | None:
    """Build a copy's test and return what it says first, with the precision, or None."""
    build = folder / "build"
    if not build.exists():
        configure = [CMAKE, "-S", str(folder), "-B", str(build), "-DSIMCLR_SANITIZE=ON"]
        must_succeed([*configure, f"-DPython_EXECUTABLE={sys.executable}"])
    # The quick ones first.
    tests = ("test_launches", "test_sigmoid", "test_stats", "test_contrastive", "test_fused")
    must_succeed([CMAKE, "--build", str(build), "--parallel", "2", "--target", *tests])
    for precision, rows, test in itertools.product(PRECISIONS, ([], ["wide"]), tests):
        name = " ".join([precision, *rows])
        try:
            result = subprocess.run(
                [str(build / "tests" / "cuda_host" / test), precision, *rows],
                env={"ASAN_OPTIONS": "detect_leaks=0"},
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"{name}: hung for {SECONDS} s"
        if result.returncode != 0:
            return f"{name}: {_summary(result.stderr)}"
    return None


def _summary(output: str) -> str:
    """Return the first error message, without addresses and paths."""
    for pattern in COMPLAINTS:
        if (match := re.search(pattern, output)) is not None:
            return ": ".join(match.groups())
    return output[-200:]
