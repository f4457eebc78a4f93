"""The plain Triton kernel: correct in Triton's interpreter, and compiled for sm_90."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

RIGHT = """
import torch
from benchmarks.gpu.triton_kernel import nt_xent
from simclr_ext import nt_xent_loss
torch.manual_seed(0)
# The interpreter does not multiply bfloat16; float16 takes the same path.
for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 1e-2)):
    for n, d, t in ((1, 16, 0.5), (40, 24, 0.5), (67, 33, 0.05)):
        views = [torch.randn(n, d).to(dtype).requires_grad_() for _ in range(2)]
        exact = [z.detach().double().requires_grad_() for z in views]
        loss, truth = nt_xent(*views, t), nt_xent_loss(*exact, t, backend="reference")
        found = (loss, *torch.autograd.grad(loss, views))
        for value, right in zip(found, (truth, *torch.autograd.grad(truth, exact))):
            error = (value.double() - right).norm() / right.norm().clamp_min(1e-3)
            assert error < tolerance, (dtype, n, d, t, error)
"""
COMPILES = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from benchmarks.gpu import triton_kernel
pointers = {"z": "*bf16", "lse": "*fp32"}
integers = {"rows": "i32", "pairs": "i32", "dim": "i32", "scale": "fp32"}
kernels = {
    triton_kernel.forward_kernel: pointers | {"positive": "*fp32"} | integers,
    triton_kernel.backward_kernel:
        pointers | {"weight": "*fp32", "grad": "*fp32"} | integers | {"inv_t": "fp32"},
}
for kernel, signature in kernels.items():
    arguments = triton_kernel.blocks(128, torch.bfloat16).arguments(torch.bfloat16)
    options = {name: arguments.pop(name) for name in ("num_warps", "num_stages")}
    signature |= dict.fromkeys(arguments, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=arguments)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert len(compiled.asm["cubin"]) > 0
"""


def run(code: str, **environment: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "only 0-dimensional arrays can be converted" in result.stderr:
        pytest.skip("the interpreter of this Triton is not made for this numpy")
    assert result.returncode == 0, result.stderr


def test_it_is_right() -> None:
    run(RIGHT, TRITON_INTERPRET="1")


def test_it_compiles() -> None:
    run(COMPILES)
