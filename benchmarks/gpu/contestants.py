"""Times the peers of benchmarks/loss/peers/ that are installed, each beside the fused kernels."""

from __future__ import annotations

import functools
from typing import Any

import torch

from benchmarks.gpu import timing
from benchmarks.gpu.job import Context, Job, Jobs, Row, Skipped
from benchmarks.gpu.own import TEMPERATURE, gradients_of
from benchmarks.gpu.precision import PRECISIONS, Precision, fp32_precision
from benchmarks.loss import peers
from simclr_ext.bench.measure import check, views
from simclr_ext.bench.memory import attempt

CHECKED = (300, 64)  # N and D of a peer's check
# Relative, of a peer's loss and gradients: large enough for its rounding, TF32's included.
LARGEST_ERROR = {torch.float32: 1e-2, torch.bfloat16: 0.1}


def jobs(
    context: Context,
    names: tuple[str, ...],
    precision: str,
    sizes: tuple[int, ...],
    d: int,
    rounds: int,
    limit: float,
) -> Jobs:
    """Yield a job for each peer and size; one with the reason for a peer that cannot run here.

    Args:
        context: Device and folder.
        names: Names of the peers; (): all but our own.
        precision: Of the views.
        sizes: N.
        d: D.
        rounds: Samples.
        limit: Seconds for a peer at a size; compiling takes long.
    """
    device = torch.device(context.device)
    wanted = [
        peer
        for peer in peers.PEERS
        if (peer.name in names if names else peer.name not in (peers.OURS, peers.TILED))
    ]
    found, skipped = peers.find(wanted, device.type)
    for peer in wanted:
        if peer.name in skipped:
            yield Job(peer.name, functools.partial(_skip, skipped[peer.name]))
            continue
        for n in sizes:
            run = functools.partial(
                measure, found[peer.name], PRECISIONS[precision], n, d, device, rounds
            )
            yield Job(f"{peer.name} {precision} N={n} D={d}", run, limit)


def _skip(reason: str) -> Row:
    raise Skipped(reason)


def measure(
    found: tuple[Any, Any], precision: Precision, n: int, d: int, device: torch.device, rounds: int
) -> Row:
    """Check a peer against float64, and time it and the fused kernels in the same rounds."""
    peer, loss = found
    torch.compiler.reset()  # otherwise beyond the recompilation limit it silently runs eagerly
    (ours,) = (p for p in peers.PEERS if p.name == peers.OURS)
    with fp32_precision(precision.mode):
        checked = views(*CHECKED, precision.dtype, device)
        tolerance = LARGEST_ERROR[precision.dtype]
        status = attempt(
            functools.partial(check, loss, peer.truth, checked, TEMPERATURE, tolerance)
        )
        if status != "ok":  # a peer's failure is not ours
            raise Skipped(status)
        z0, z1 = views(n, d, precision.dtype, device)
        calls = {
            peer.name: gradients_of(loss, z0, z1),
            "fused": gradients_of(ours.load(), z0, z1),
        }
        timings = timing.interleaved(calls, device, rounds)
    row = {"peer": peer.name, "problem": peer.problem, "precision": precision.name, "n": n, "d": d}
    return row | {"timings": timings}
