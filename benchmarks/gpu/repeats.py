"""Repeats a step of the loss many times: the bits must be the same every time."""

from __future__ import annotations

import functools

import torch

from benchmarks.gpu import operators
from benchmarks.gpu.job import Context, Job, Jobs, Row
from benchmarks.gpu.own import TEMPERATURE
from benchmarks.gpu.precision import PRECISIONS, Precision, fp32_precision
from simclr_ext.bench.measure import views


def jobs(context: Context, points: tuple[tuple[str, int, int], ...], times: int) -> Jobs:
    """Yield a job for each precision, N and D."""
    device = torch.device(context.device)
    for name, n, d in points:
        run = functools.partial(repeat, PRECISIONS[name], n, d, device, times)
        yield Job(f"{name} N={n} D={d} x{times}", run)


def repeat(precision: Precision, n: int, d: int, device: torch.device, times: int) -> Row:
    """Compare every repetition with the first; report which elements differ."""
    z0, z1 = (z.detach() for z in views(n, d, precision.dtype, device))
    first: dict[str, torch.Tensor] = {}
    differing = {}
    with fp32_precision(precision.mode):
        for turn in range(times):
            saved = operators.forward(z0, z1, TEMPERATURE)
            weights = torch.full_like(saved.loss, 1 / len(saved.loss))
            grad_z, grad_t = operators.backward(weights, saved, TEMPERATURE, d)
            found = {"loss": saved.loss, "lse": saved.lse, "grad_z": grad_z, "grad_t": grad_t}
            first = first or found
            for name, value in found.items():
                if name not in differing and not torch.equal(value, first[name]):
                    where = (value != first[name]).nonzero()
                    differing[name] = {
                        "turn": turn,
                        "elements": len(where),
                        "first": where[0].tolist(),
                    }
    status = "failed" if differing else "ok"
    return {"status": status, "faults": [differing] if differing else [], "times": times}
