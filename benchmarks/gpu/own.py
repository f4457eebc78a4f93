"""Times the fused operators, forward and backward alone, beside eager PyTorch and plain Triton."""

from __future__ import annotations

import functools
import importlib.util

import torch

from benchmarks.gpu import operators, timing
from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.precision import PRECISIONS, Precision, fp32_precision
from simclr_ext import nt_xent_loss
from simclr_ext.bench.baselines import Loss, eager
from simclr_ext.bench.measure import views
from simclr_ext.bench.memory import peak

TEMPERATURE = 0.5
Point = tuple[str, int, int]  # precision, N, D
_LIMIT = 60.0  # seconds of a job
_OURS: Loss = functools.partial(nt_xent_loss, backend="fused")
# Minimum bytes that eager takes per element of the matrix, forward and backward.
_EAGER_BYTES = {torch.bfloat16: 10, torch.float16: 10, torch.float32: 16}


def jobs(
    context: Context,
    points: tuple[Point, ...],
    rounds: int,
    beside: tuple[str, ...] = (),
    profiled: tuple[Point, ...] = (),
) -> Jobs:
    """Yield a job for each point.

    Args:
        context: Device and folder.
        points: Precision, N and D.
        rounds: Samples.
        beside: (): the operators alone. "eager", "triton": a whole step compared with these.
        profiled: Points with an additional job for the time of each kernel.
    """
    device = torch.device(context.device)
    for name, n, d in points:
        precision = PRECISIONS[name]
        key = f"{name} N={n} D={d}"
        if beside:
            run = functools.partial(measure_beside, precision, n, d, device, rounds, beside)
        else:
            run = functools.partial(measure, precision, n, d, device, rounds)
        yield Job(key, run, _LIMIT)
        if (name, n, d) in profiled and context.on_gpu:
            yield Job(f"{key} kernels", functools.partial(profile, precision, n, d, device), _LIMIT)


def measure(precision: Precision, n: int, d: int, device: torch.device, rounds: int) -> Row:
    """Time the operators and a whole step at a point, with nothing else."""
    z0, z1 = views(n, d, precision.dtype, device)
    row: Row = {"precision": precision.name, "n": n, "d": d, "tflops": {}}
    with fp32_precision(precision.mode):
        calls = operator_calls(z0, z1)
        calls["both"] = gradients_of(_OURS, z0, z1)
        if device.type == "cuda":
            row["peak_mib"] = peak(calls["both"], device) / 2**20
        row["timings"] = timing.interleaved(calls, device, rounds)
    for name, timed in row["timings"].items():
        if timed.get("status") == "failed":
            row |= {"status": "failed", "error": f"{name}: {timed['error']}"}
        elif "ms" in timed and name != "both":
            row["tflops"][name] = executed_flop(name, precision, n, d) / timed["ms"] / 1e9
    return row


def measure_beside(
    precision: Precision, n: int, d: int, device: torch.device, rounds: int, others: tuple[str, ...]
) -> Row:
    """Time a whole step of the fused kernels, and others in the same rounds."""
    z0, z1 = views(n, d, precision.dtype, device)
    calls, skipped = {"both": gradients_of(_OURS, z0, z1)}, {}
    with fp32_precision(precision.mode):
        for name in others:
            try:
                reason = _obstacle(name, precision, n, device)
                if reason is None:
                    calls |= _other_calls(name, z0, z1)
                else:
                    skipped[name] = {"status": "skipped", "reason": reason}
            except Exception as error:  # such as a compiler's: time the others anyway
                skipped[name] = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        timings = timing.interleaved(calls, device, rounds) | skipped
    return {"precision": precision.name, "n": n, "d": d, "timings": timings}


def operator_calls(z0: torch.Tensor, z1: torch.Tensor) -> dict[str, timing.Call]:
    """Return the calls of the two operators, without autograd around them."""
    z0, z1 = z0.detach(), z1.detach()
    saved = operators.forward(z0, z1, TEMPERATURE)
    weights = torch.full_like(saved.loss, 1 / len(saved.loss))
    return {
        "forward": lambda: operators.forward(z0, z1, TEMPERATURE),
        "backward": lambda: operators.backward(weights, saved, TEMPERATURE, z0.shape[1]),
    }


def gradients_of(loss: Loss, z0: torch.Tensor, z1: torch.Tensor) -> timing.Call:
    """Return the call that computes a loss and the gradients of both views."""
    return lambda: torch.autograd.grad(loss(z0, z1, TEMPERATURE), (z0, z1))


def _obstacle(name: str, precision: Precision, n: int, device: torch.device) -> str | None:
    """Return why something cannot be timed beside the operators, or None."""
    if name == "triton":
        if device.type != "cuda":
            return "Triton's kernels are for a GPU"
        if importlib.util.find_spec("triton") is None:
            return "triton is missing"
        if precision.name not in ("bfloat16", "float32"):
            return "the plain kernel takes bfloat16 and float32"
    if name == "eager" and device.type == "cuda":
        needed = _EAGER_BYTES[precision.dtype] * (2 * n) ** 2
        free, _ = torch.cuda.mem_get_info(device)
        if needed > 0.8 * free:
            return f"its matrix takes {needed / 2**30:.0f} GiB, {free / 2**30:.0f} are free"
    return None


def _other_calls(name: str, z0: torch.Tensor, z1: torch.Tensor) -> dict[str, timing.Call]:
    if name == "eager":
        return {"eager": gradients_of(eager, z0, z1)}
    from benchmarks.gpu import triton_kernel

    z = torch.nn.functional.normalize(torch.cat([z0, z1]).detach(), dim=1)
    lse, _ = triton_kernel.row_sums(z, TEMPERATURE)
    weights = torch.full_like(lse, 1 / len(lse))
    return {
        "triton forward": lambda: triton_kernel.row_sums(z, TEMPERATURE),
        "triton backward": lambda: triton_kernel.row_gradients(z, lse, weights, TEMPERATURE),
        "triton": gradients_of(triton_kernel.nt_xent, z0, z1),
    }


def executed_flop(name: str, precision: Precision, n: int, d: int) -> float:
    """Return the FLOP that the tensor cores execute for D columns; padding is not counted.

    Forward: half of the square of S, as one shift serves all rows. Backward: S again, and the
    weights' product. 3xTF32 multiplies three times.
    """
    square = 2.0 * (2 * n) ** 2 * d
    times = 3 if precision.name == "float32" else 1
    return times * square * (0.5 if name == "forward" else 2.0)


def profile(precision: Precision, n: int, d: int, device: torch.device) -> Row:
    """Return the time of each kernel of a forward and backward pass."""
    z0, z1 = views(n, d, precision.dtype, device)
    with fp32_precision(precision.mode):
        found = timing.kernels(gradients_of(_OURS, z0, z1))
    return {"precision": precision.name, "n": n, "d": d, "kernels": found}
