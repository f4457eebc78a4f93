"""The first checks of gpu_check on the CUDA kernels themselves, on the CPU by tests/cuda_host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ROOT
from tests.tools import built

CHECKS = """
import sys
import torch
from benchmarks.gpu import operators, sentences, staged
from benchmarks.gpu.cases import Case
from benchmarks.gpu.precision import BFLOAT16, FLOAT16, FLOAT32, TF32
torch.ops.load_library(sys.argv[1])  # in the place of the extension, for tensors on the CPU
operators.ops.register = lambda: None
operators.SCALED_ON.add("cpu")
cases = [
    Case("fused", precision, 33, d, temperature)
    for precision in (BFLOAT16, FLOAT32, FLOAT16, TF32)
    for d in (24, 200)
    for temperature in (0.5, 0.01)
]
cases += [Case("fused", precision, 33, 300) for precision in (BFLOAT16, FLOAT32, FLOAT16, TF32)]
cases += [Case("fused", BFLOAT16, 50, 14, kind=kind) for kind in ("strided", "zero row")]
cases += [Case("fused", FLOAT32, 33, 12, 2.0, normalize=False)]
for case in cases:
    row = staged.check_uninitialized(case, torch.device("cpu"))
    assert row["status"] == "ok", (case.key, sentences.of_job(row))
    assert len(row["budget_used"]) == 8 + case.normalize
# A kernel that is given another row than the check believes is found, and named.
stored = operators.stored_rows
def wrong(*arguments):
    z = stored(*arguments)
    z[7] *= -1
    return z
operators.stored_rows = wrong
row = staged.check(cases[0], torch.device("cpu"))
kernels = {fault["kernel"] for fault in row["faults"]}
assert kernels == {"backward_kernel, gradient_kernel or terms_kernel"}
assert row["faults"][0]["rows mod 128"] != [], row
"""


@pytest.fixture(scope="module")
def library() -> Path:
    """Return the operators with the CUDA kernels' sources."""
    return built("fused_host_operators") / "tests" / "cuda_host" / "libfused_host_operators.so"


@pytest.mark.build
def test_the_staged_checks_pass_on_the_cuda_kernels(library: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHECKS, str(library)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
