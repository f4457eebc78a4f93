"""The measurement environment: the card, its clocks, the versions."""

from __future__ import annotations

import functools
import os
import platform
from datetime import datetime, timezone

import torch

import simclr_ext
from benchmarks import ROOT
from benchmarks.gpu import tools
from benchmarks.gpu.job import Context, Job, Jobs, Row

_QUERY = (
    *("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.mem", "clocks.sm"),
    *("power.limit", "temperature.gpu", "ecc.mode.current", "mig.mode.current", "persistence_mode"),
)


def jobs(context: Context) -> Jobs:
    """Yield the one job of the step."""
    yield Job("environment", functools.partial(describe, context), 60)


def describe(context: Context) -> Row:
    """Return everything that a measurement may depend on."""
    found: Row = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "simclr-ext": simclr_ext.__version__,
        "commit": tools.output_of("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "processors": len(os.sched_getaffinity(0)),
        "device": context.device,
        "triton": _version_of_triton(),
    }
    if context.on_gpu:
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "GPU": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory GiB": round(properties.total_memory / 2**30, 1),
            "nvcc": (tools.output_of("nvcc", "--version") or "").splitlines()[-1:],
            "ncu": tools.find("ncu"),
            "compute-sanitizer": tools.find("compute-sanitizer"),
        }
        found |= nvidia_smi(_QUERY)
    return found


def nvidia_smi(names: tuple[str, ...]) -> Row:
    """Return what nvidia-smi says of the card that this process uses."""
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    uuid = torch.cuda.get_device_properties(0).uuid  # an index would count the hidden cards too
    answer = tools.output_of(*command, f"--id=GPU-{uuid}")
    if answer is None and len(names) > 1:  # one unknown name makes the driver fail for all
        return {k: v for name in names for k, v in nvidia_smi((name,)).items()}
    values = (answer or "unknown").split(", ")
    return {f"nvidia-smi {name}": value for name, value in zip(names, values, strict=False)}


def _version_of_triton() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    version: str = triton.__version__
    return version
