"""A process that runs the fused operators and little else, to be run under tools.

python -m benchmarks.gpu.target LIBRARY PRECISION:N:D:T ...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from benchmarks import ROOT
from benchmarks.gpu import build, operators
from benchmarks.gpu.job import Skipped
from benchmarks.gpu.precision import PRECISIONS, fp32_precision
from benchmarks.gpu.results import Results

Point = tuple[str, int, int, float]  # precision, N, D, T


def command(results: Results, points: tuple[Point, ...]) -> list[str]:
    """Return the command of such a process.

    Raises:
        Skipped: If the extension was not built.
    """
    library = results.library()
    if library is None:
        raise Skipped("the extension was not built")
    names = [":".join(map(str, point)) for point in points]
    return [sys.executable, "-m", "benchmarks.gpu.target", str(library), *names]


def environment() -> dict[str, str]:
    """Return the variables that let the process find this package."""
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def main(library: str, points: list[str]) -> None:
    """Run forward and backward at each point on the GPU."""
    build.load(Path(library))
    for point in points:
        name, n, d, temperature = point.split(":")
        precision = PRECISIONS[name]
        # Created on the CPU, so that only our kernels and the copies run on the GPU.
        views = torch.randn(2, int(n), int(d)).to(precision.dtype).cuda()
        with fp32_precision(precision.mode):
            saved = operators.forward(views[0], views[1], float(temperature))
            weights = torch.full((2 * int(n),), 1 / int(n)).cuda()
            grad_z, _ = operators.backward(weights, saved, float(temperature), int(d))
        torch.cuda.synchronize()
        print(point, saved.loss.cpu().mean().item(), grad_z.cpu().float().abs().sum().item())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
