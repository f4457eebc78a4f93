"""Faults of the CUDA kernels; their tests on the CPU find them, under AddressSanitizer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.mutants.fault import Fault

SECONDS = 900  # a sound copy takes about one minute per precision
PRECISIONS = ("bf16", "tf32x3", "fp16", "tf32")
COMPLAINTS = (  # of the miniature GPU, of the test itself, and of the sanitizers
    r"what\(\):\s+(.*)",
    r"failed: (.*) with (.*)",
    r"runtime error: (.*)",
    r"SUMMARY: (\w+: [\w-]+)",
)

FAULTS = [
    Fault(
        "forward: no barrier between copy and use",
        "csrc/cuda/forward.cuh",
        "      sync_threads();\n      if (column + C::kColumns < end)",
        "      if (column + C::kColumns < end)",
    ),
    Fault(
        "forward: no barrier before the last column sums",
        "csrc/cuda/forward.cuh",
        "    sync_threads();\n    add_column_sums(stage ^ 1, previous);",
        "    add_column_sums(stage ^ 1, previous);",
    ),
    Fault(
        "forward: one copy too few waited for",
        "csrc/cuda/forward.cuh",
        "copy_async_wait<0>",
        "copy_async_wait<1>",
    ),
    Fault(
        "backward: no barrier between copy and use",
        "csrc/cuda/backward.cuh",
        "      sync_threads();\n      if (column",
        "      if (column",
    ),
    Fault(
        "backward: no barrier before the gradient overwrites tiles",
        "csrc/cuda/backward.cuh",
        "    sync_threads();  // the tiles that lie there may still be read\n",
        "",
    ),
    Fault(
        "backward: one copy too few waited for",
        "csrc/cuda/backward.cuh",
        "copy_async_wait<0>",
        "copy_async_wait<1>",
    ),
    Fault(
        "backward: stages not exchanged",
        "csrc/cuda/backward.cuh",
        "      stage ^= 1;\n",
        "",
    ),
    Fault(
        "right fragment's registers swapped",
        "csrc/cuda/tile.cuh",
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
        "csrc/cuda/tile.cuh",
        "unit_offset<C>(lane % 8 + 8 * (lane / 16), lane / 8 % 2)",
        "unit_offset<C>(lane % 8 + 8 * (lane / 16), lane / 16)",
    ),
    Fault(
        "last rows not guarded",
        "csrc/cuda/tile.cuh",
        "row + pass < end",
        "row + pass <= end",
    ),
    Fault(
        "padding of D not zero",
        "csrc/cuda/tile.cuh",
        "unit * C::kUnitElements < rows.stride ? rows.count - first_row : 0",
        "rows.count - first_row",
    ),
    Fault(
        "address past the last row",
        "csrc/cuda/tile.cuh",
        "row + pass + kPassRows < end ? int64_t{kPassRows} * rows.stride : 0",
        "int64_t{kPassRows} * rows.stride",
    ),
    Fault(
        "address past the last term",
        "csrc/cuda/tile.cuh",
        "(j < count ? j : 0)",
        "j",
    ),
    Fault(
        "32-bit offset of a row",
        "csrc/cuda/tile.cuh",
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
        "? i < j : i != j",
        "? i <= j : true",
    ),
    Fault(
        "columns past the last count",
        "csrc/cuda/forward.cuh",
        "i < p_.rows.count && j < p_.rows.count;",
        "i < p_.rows.count;",
    ),
    Fault(
        "edge not seen",
        "csrc/cuda/forward.cuh",
        "after_row > p_.rows.count || after_column > p_.rows.count",
        "after_row > p_.rows.count",
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
        "pair_.a == pair_.b ? p_.strips : pair_.a",
        "pair_.a",
    ),
    Fault(
        "column sums begin with what was there",
        "csrc/cuda/forward.cuh",
        "first ? sum : ",
        "",
    ),
    Fault(
        "columns exchanged between lanes",
        "csrc/cuda/forward.cuh",
        "odd ? column[0] :",
        "!odd ? column[0] :",
    ),
    Fault(
        "half of a row's lanes not joined",
        "csrc/cuda/forward.cuh",
        "lanes <= 2",
        "lanes < 2",
    ),
    Fault(
        "sum not rescaled when the shift rises",
        "csrc/cuda/forward.cuh",
        "row_sum_[m][half] * exp2_fast(row_max_[m][half] - largest)",
        "row_sum_[m][half]",
    ),
    Fault(
        "shift dropped",
        "csrc/cuda/forward.cuh",
        "column_factor[e % 2] - p_.shift",
        "column_factor[e % 2]",
    ),
    Fault(
        "strips' own pairs count once",
        "csrc/cuda/kernels_rows.cu",
        "strip <= p.strips",
        "strip < p.strips",
    ),
    Fault(
        "positive one row off",
        "csrc/cuda/backward.cuh",
        "i + rows.pairs :",
        "i + rows.pairs - 1 :",
    ),
    Fault(
        "positive counts as a negative too",
        "csrc/cuda/backward.cuh",
        "|| distance == positives[0]",
        "",
    ),
    Fault(
        "gradient of the column's loss left out",
        "csrc/cuda/backward.cuh",
        "(row_weight_[m][e / 2] + weight[e % 2])",
        "row_weight_[m][e / 2]",
    ),
    Fault(
        "weights without the columns' factors",
        "csrc/cuda/backward.cuh",
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
        "csrc/cuda/rows.cuh",
        "clamped ? -inv_norm : inv_norm",
        "inv_norm",
    ),
    Fault(
        "infinity of pairs that do not count",
        "csrc/cuda/backward.cuh",
        "fminf(exponent, 0.0f)",
        "exponent",
    ),
]


def first_failure(folder: Path) -> str | None:
    """Build a copy's test and return what it says first, with the precision, or None."""
    build = folder / "build"
    if not build.exists():
        configure = ["cmake", "-S", str(folder), "-B", str(build), "-DSIMCLR_SANITIZE=ON"]
        _run([*configure, f"-DPython_EXECUTABLE={sys.executable}"])
    _run(["cmake", "--build", str(build), "--parallel", "2", "--target", "test_fused"])
    for precision in PRECISIONS:
        try:
            result = subprocess.run(
                [str(build / "tests" / "cuda_host" / "test_fused"), precision],
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


def _run(command: list[str]) -> None:
    """Run a command that must succeed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)


def _summary(output: str) -> str:
    """Return what the first complaint says, without addresses and paths."""
    for pattern in COMPLAINTS:
        if (match := re.search(pattern, output)) is not None:
            return ": ".join(match.groups())
    return output[-200:]
