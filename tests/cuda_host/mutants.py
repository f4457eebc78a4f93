"""Plants faults in the CUDA kernels, one at a time, and checks that the tests on the CPU find each.

    python tests/cuda_host/mutants.py [--only TEXT]

Works on a copy, under AddressSanitizer. Prints a row of a Markdown table per fault, and fails if
one survives.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 900  # a sound copy takes about one minute per precision
PRECISIONS = ("bf16", "tf32x3", "fp16", "tf32")
COMPLAINTS = (  # of the miniature GPU, of the test itself, and of the sanitizers
    r"what\(\):\s+(.*)",
    r"failed: (.*) with (.*)",
    r"runtime error: (.*)",
    r"SUMMARY: (\w+: [\w-]+)",
)

# Fault, file of csrc/cuda, what is replaced (it occurs once), by what.
MUTANTS = [
    (
        "forward: no barrier between copy and use",
        "forward.cuh",
        "      sync_threads();\n      if (column + C::kColumns < end)",
        "      if (column + C::kColumns < end)",
    ),
    (
        "forward: no barrier before the last column sums",
        "forward.cuh",
        "    sync_threads();\n    add_column_sums(stage ^ 1, previous);",
        "    add_column_sums(stage ^ 1, previous);",
    ),
    (
        "forward: one copy too few waited for",
        "forward.cuh",
        "copy_async_wait<0>",
        "copy_async_wait<1>",
    ),
    (
        "backward: no barrier between copy and use",
        "backward.cuh",
        "      sync_threads();\n      if (column",
        "      if (column",
    ),
    (
        "backward: no barrier before the gradient overwrites tiles",
        "backward.cuh",
        "    sync_threads();  // the tiles that lie there may still be read\n",
        "",
    ),
    (
        "backward: one copy too few waited for",
        "backward.cuh",
        "copy_async_wait<0>",
        "copy_async_wait<1>",
    ),
    ("backward: stages not exchanged", "backward.cuh", "      stage ^= 1;\n", ""),
    (
        "right fragment's registers swapped",
        "tile.cuh",
        "const auto b1 = Element::b_from_memory(raw[2], raw[3]);",
        "const auto b1 = Element::b_from_memory(raw[3], raw[2]);",
    ),
    (
        "half weights: rows of a fragment swapped",
        "elements.cuh",
        "Derived::pack(w[1][0], w[1][1]), Derived::pack(w[1][2], w[1][3])",
        "Derived::pack(w[1][2], w[1][3]), Derived::pack(w[1][0], w[1][1])",
    ),
    (
        "float weights: columns in the accumulators' order",
        "elements.cuh",
        "{float_bits(w[0][0]), float_bits(w[0][2]), float_bits(w[0][1]), float_bits(w[0][3])}",
        "{float_bits(w[0][0]), float_bits(w[0][1]), float_bits(w[0][2]), float_bits(w[0][3])}",
    ),
    ("low part of 3xTF32 dropped", "elements.cuh", "    mma_tf32(d, a.low, b.high);\n", ""),
    (
        "units of a row not where they were stored",
        "tile.cuh",
        "unit_offset<C>(lane % 8 + 8 * (lane / 16), lane / 8 % 2)",
        "unit_offset<C>(lane % 8 + 8 * (lane / 16), lane / 16)",
    ),
    ("last rows not guarded", "tile.cuh", "row + pass < end", "row + pass <= end"),
    (
        "padding of D not zero",
        "tile.cuh",
        "unit * C::kUnitElements < rows.stride ? rows.count - first_row : 0",
        "rows.count - first_row",
    ),
    (
        "address past the last row",
        "tile.cuh",
        "row + pass + kPassRows < end ? int64_t{kPassRows} * rows.stride : 0",
        "int64_t{kPassRows} * rows.stride",
    ),
    ("address past the last term", "tile.cuh", "(j < count ? j : 0)", "j"),
    ("32-bit offset of a row", "tile.cuh", "int64_t{first_row + row} *", "(first_row + row) *"),
    ("32-bit offset of a row of the result", "backward.cuh", "int64_t{i} *", "i *"),
    ("row meets itself", "forward.cuh", "? i < j : i != j", "? i <= j : true"),
    (
        "columns past the last count",
        "forward.cuh",
        "i < p_.rows.count && j < p_.rows.count;",
        "i < p_.rows.count;",
    ),
    (
        "edge not seen",
        "forward.cuh",
        "after_row > p_.rows.count || after_column > p_.rows.count",
        "after_row > p_.rows.count",
    ),
    (
        "column sums left out",
        "forward.cuh",
        "      if (previous >= 0) add_column_sums(stage ^ 1, previous);\n",
        "",
    ),
    (
        "column sums of a strip's own pairs written over its row sums",
        "forward.cuh",
        "pair_.a == pair_.b ? p_.strips : pair_.a",
        "pair_.a",
    ),
    ("column sums begin with what was there", "forward.cuh", "first ? sum : ", ""),
    ("columns exchanged between lanes", "forward.cuh", "odd ? column[0] :", "!odd ? column[0] :"),
    ("half of a row's lanes not joined", "forward.cuh", "lanes <= 2", "lanes < 2"),
    (
        "sum not rescaled when the shift rises",
        "forward.cuh",
        "row_sum_[m][half] * exp2_fast(row_max_[m][half] - largest)",
        "row_sum_[m][half]",
    ),
    ("shift dropped", "forward.cuh", "column_factor[e % 2] - p_.shift", "column_factor[e % 2]"),
    ("strips' own pairs count once", "kernels_rows.cu", "strip <= p.strips", "strip < p.strips"),
    ("positive one row off", "backward.cuh", "i + rows.pairs :", "i + rows.pairs - 1 :"),
    ("positive counts as a negative too", "backward.cuh", "|| distance == positives[0]", ""),
    (
        "gradient of the column's loss left out",
        "backward.cuh",
        "(row_weight_[m][e / 2] + weight[e % 2])",
        "row_weight_[m][e / 2]",
    ),
    ("weights without the columns' factors", "backward.cuh", "sum * factor[e % 2]", "sum"),
    ("gain not undone", "backward.cuh", "shared_load(grad, k) * inv_gain", "shared_load(grad, k)"),
    ("radial part kept", "backward.cuh", "projected ? radial * factor : 0.0f", "0.0f"),
    (
        "rows shorter than eps projected too",
        "rows.cuh",
        "clamped ? -inv_norm : inv_norm",
        "inv_norm",
    ),
    ("infinity of pairs that do not count", "backward.cuh", "fminf(exponent, 0.0f)", "exponent"),
]


def main() -> int:
    """Run the mutants; return the number of survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="faults with this in their name")
    text = parser.parse_args().only
    chosen = [mutant for mutant in MUTANTS if text in mutant[0]]
    survivors = 0
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for part in ("csrc", "tests", "simclr_ext", "CMakeLists.txt"):
            source = ROOT / part
            shutil.copytree(source, copy / part) if source.is_dir() else shutil.copy(source, copy)
        configure = ["cmake", "-S", str(copy), "-B", str(copy / "build"), "-DSIMCLR_SANITIZE=ON"]
        run([*configure, f"-DPython_EXECUTABLE={sys.executable}"])
        if (killer := first_failure(copy)) is not None:
            sys.exit(f"the tests fail without a fault: {killer}")
        print("| fault | found by |\n|---|---|", flush=True)
        for name, file, old, new in chosen:
            path = copy / "csrc" / "cuda" / file
            text = path.read_text()
            if text.count(old) != 1:
                sys.exit(f"{file}: {old!r} occurs {text.count(old)} times: update MUTANTS")
            path.write_text(text.replace(old, new))
            killer = first_failure(copy)
            survivors += killer is None
            print(f"| {name} | {killer or '**nothing**'} |", flush=True)
            path.write_text(text)
    print(f"\n{len(chosen) - survivors} of {len(chosen)} found")
    return survivors


def run(command: list[str]) -> None:
    """Run a command that must succeed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)


def first_failure(copy: Path) -> str | None:
    """Build the copy's test and return what it says first, with the precision, or None."""
    run(["cmake", "--build", str(copy / "build"), "--parallel", "2", "--target", "test_fused"])
    for precision in PRECISIONS:
        try:
            result = subprocess.run(
                [str(copy / "build" / "tests" / "cuda_host" / "test_fused"), precision],
                env={"ASAN_OPTIONS": "detect_leaks=0"},
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"{precision}: hung for {SECONDS} s"
        if result.returncode != 0:
            return f"{precision}: {summary(result.stderr)}"
    return None


def summary(output: str) -> str:
    """Return what the first complaint says, without addresses and paths."""
    for pattern in COMPLAINTS:
        if (match := re.search(pattern, output)) is not None:
            return ": ".join(match.groups())
    return output[-200:]


if __name__ == "__main__":
    sys.exit(main())
