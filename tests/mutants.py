"""Plants faults in the kernels, one at a time, and checks that the tests find each.

    python tests/mutants.py

Works on a copy. Prints a row per fault, and fails if one survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600  # a sound copy takes about one minute
TESTS = [
    "tests/test_accuracy.py",
    "tests/test_losses.py",
    "tests/test_ops.py",
    "tests/test_products.py",
]

# Fault, file, what is replaced (it occurs once), by what.
MUTANTS = [
    (
        "tile one row off",
        "common/tiling.h",
        "{b * num_rows_ / count_,",
        "{b * num_rows_ / count_ + (b == 1),",
    ),
    (
        "diagonal not masked",
        "cpu/similarities.cpp",
        "if (tile.diagonal()) row[r] = kMasked;",
        "",
    ),
    (
        "padding not masked",
        "cpu/similarities.cpp",
        "std::fill(row + columns, row + data.columns, kMasked);",
        "",
    ),
    (
        "positive one column off",
        "cpu/similarities.cpp",
        "i + num_pairs() - tile.columns.begin",
        "(i + 1) % num_pairs() + num_pairs() - tile.columns.begin",
    ),
    (
        "mirrored positive left out",
        "cpu/nt_xent_backward.cpp",
        "if (tile.diagonal()) s.mirrored",
        "if (false) s.mirrored",
    ),
    (
        "column sums not added",
        "cpu/nt_xent_forward.cpp",
        "if (!tile.diagonal()) add_to(tile.columns, column_result);",
        "",
    ),
    (
        "column product not added",
        "cpu/nt_xent_backward.cpp",
        "if (columns.size() > 0 && !tile.diagonal()) {",
        "if (false) {",
    ),
    (
        "only the last panel of a product kept",
        "cpu/products.cpp",
        "tile.stride(0)}, d.begin > 0);",
        "tile.stride(0)}, false);",
    ),
    (
        "transposed rows one off in blocks that are cut",
        "cpu/products.cpp",
        "d * block.size() + rows.begin - block.begin,",
        "d * block.size() + (rows.begin > block.begin) + rows.begin - block.begin,",
    ),
    (
        "ragged edge of what is turned dropped",
        "cpu/simd/kernels.inl",
        "const int64_t last_row = r + kSide > rows ? rows : r + kSide;",
        "const int64_t last_row = r + kSide > rows ? rows - 1 : r + kSide;",
    ),
    (
        "one shift for all at any temperature",
        "cpu/similarities.cpp",
        "2 * scale_ * shared_shift_ <= kSafeRange<T>",
        "true",
    ),
    ("sum not rescaled when the shift rises", "cpu/nt_xent_forward.cpp", "sum_[i] *=", "(void)"),
    (
        "tail of the dot product dropped",
        "cpu/simd/kernels.inl",
        "for (; d < dim; ++d) total +=",
        "for (; d < dim - 1; ++d) total +=",
    ),
    (
        "rows after the last group of four dropped",
        "cpu/simd/kernels.inl",
        "for (; r < tile.rows; ++r) {",
        "for (; r < tile.rows - 1; ++r) {",
    ),
    ("zero rows divided by their norm", "cpu/simd/kernels.inl", "norm < eps;", "false;"),
    (
        "radial part of the gradient kept",
        "cpu/simd/kernels.inl",
        "clamped ? T(0) : static_cast<T>(radial)",
        "T(0)",
    ),
    (
        "gradient of the temperature halved",
        "cpu/nt_xent_backward.cpp",
        "-radial / (2 * temperature_value)",
        "-radial / (4 * temperature_value)",
    ),
    ("gradients of the views swapped", "../simclr_ext/ops.py", "grad_z[:n].to", "grad_z[-n:].to"),
]


def main() -> int:
    """Run every mutant; return the number of survivors."""
    survivors = 0
    with tempfile.TemporaryDirectory() as temporary:
        for name, file, old, new in MUTANTS:
            copy = Path(temporary) / "copy"
            for part in ("csrc", "simclr_ext", "tests", "pyproject.toml"):
                source = ROOT / part
                shutil.copytree(source, copy / part) if source.is_dir() else shutil.copy(
                    source, copy
                )
            path = copy / "csrc" / file
            text = path.read_text()
            if text.count(old) != 1:
                sys.exit(
                    f"{file}: {old!r} occurs {text.count(old)} times, not once: update MUTANTS"
                )
            path.write_text(text.replace(old, new))
            killer = first_failure(copy, Path(temporary) / "cache")
            survivors += killer is None
            print(f"{'SURVIVED' if killer is None else 'killed':9} {name}: {killer}", flush=True)
            shutil.rmtree(copy)
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} killed")
    return survivors


def first_failure(folder: Path, cache: Path) -> str | None:
    """Return the first test that fails in a copy of the project, or that it hung, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "TORCH_EXTENSIONS_DIR": str(cache)},
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
    return lines[0].split(" - ")[0]


if __name__ == "__main__":
    sys.exit(main())
