"""The machine's own rates: cuBLAS's products and a copy; and its clocks while it works."""

from __future__ import annotations

import functools

import torch

from benchmarks.gpu import timing
from benchmarks.gpu.environment import nvidia_smi
from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.precision import PRECISIONS, Precision, fp32_precision

_QUERY = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")


def jobs(context: Context, side: int, depth: int, copied: int, rounds: int) -> Jobs:
    """Yield a job per rate.

    Args:
        context: Device and folder.
        side: Size of the square product, and of the product with the loss's shape.
        depth: D of the latter: [side, D] times [D, side].
        copied: Bytes of the copy.
        rounds: Samples.
    """
    device = torch.device(context.device)
    for name in ("bfloat16", "float32 (tf32)", "float32"):
        precision = PRECISIONS[name]
        for k in (side, depth):
            key = f"cuBLAS {name} {side} x {k} x {side}"
            yield Job(key, functools.partial(product, precision, side, k, device, rounds))
    yield Job("copy", functools.partial(copy, copied, device, rounds))
    if context.on_gpu:
        yield Job("clocks under load", functools.partial(clocks, side, device))


def product(precision: Precision, side: int, k: int, device: torch.device, rounds: int) -> Row:
    """Time torch.mm of [side, k] and [k, side]."""
    a = torch.randn(side, k, device=device).to(precision.dtype)
    out = torch.empty(side, side, device=device, dtype=precision.dtype)
    with fp32_precision(precision.mode):
        call = functools.partial(torch.mm, a, a.T, out=out)
        row = timing.interleaved({"mm": call}, device, rounds)["mm"]
    if "ms" in row:
        row["tflops"] = 2.0 * side * side * k / row["ms"] / 1e9
    return row


def copy(size: int, device: torch.device, rounds: int) -> Row:
    """Time a copy within the device's memory."""
    source, target = (torch.ones(size // 4, device=device) for _ in range(2))
    call = functools.partial(target.copy_, source)
    row = timing.interleaved({"copy": call}, device, rounds)["copy"]
    if "ms" in row:
        row["gb_per_s"] = 2 * size / row["ms"] / 1e6
    return row


def clocks(side: int, device: torch.device) -> Row:
    """Return what nvidia-smi says while the tensor cores work."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    out = torch.empty_like(a)
    once = timing.seconds(lambda: torch.mm(a, a, out=out), 3)
    for _ in range(int(2.0 / once)):  # two seconds of work, not waited for
        torch.mm(a, a, out=out)
    found = nvidia_smi(_QUERY)
    torch.cuda.synchronize()
    return found
