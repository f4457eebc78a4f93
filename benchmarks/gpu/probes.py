"""Compiles and runs probes.cu: hardware behavior that the simulated GPU and the model assume."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path

import torch

from benchmarks import ROOT
from benchmarks.gpu import tools
from benchmarks.gpu.job import Context, Job, Jobs, Row

_MMA = ("bf16", "fp16", "tf32")
_RATES = ("mma_bf16", "mma_tf32", "ex2", "ldmatrix", "fma")
_COMPILING = 60.0  # seconds


def jobs(context: Context) -> Jobs:
    """Yield a job for each probe; the first one that runs compiles them all."""
    for kind in _MMA:
        raw = str(context.folder / f"mma_{kind}.csv")
        yield Job(f"mma {kind}", functools.partial(probe, context, "mma", kind, raw), _COMPILING)
    yield Job("ex2", functools.partial(probe, context, "ex2"), _COMPILING)
    for unit in _RATES:
        yield Job(f"rate {unit}", functools.partial(probe, context, "rate", unit), _COMPILING)


def probe(context: Context, *arguments: str) -> Row:
    """Run the program and return the JSON that it prints."""
    result = subprocess.run(
        [str(program(context)), *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    if result.returncode != 0:
        raise RuntimeError(f"probes {' '.join(arguments)}: {result.stderr.strip()[-500:]}")
    found: Row = json.loads(result.stdout)
    return found


def program(context: Context) -> Path:
    """Return the compiled program."""
    source = Path(__file__).with_name("probes.cu")
    target = context.folder / "probes"
    if not target.exists():
        major, minor = torch.cuda.get_device_capability(torch.device(context.device))
        name = f"{major}{minor}{'a' if major == 9 else ''}"
        command = [
            tools.require("nvcc"),
            "-std=c++20",
            "-O2",
            "-lineinfo",
            "-I",
            str(ROOT / "csrc"),
        ]
        command += [f"-gencode=arch=compute_{name},code=sm_{name}", "-o", str(target), str(source)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"probes.cu does not compile: {result.stderr[-1000:]}")
    return target
