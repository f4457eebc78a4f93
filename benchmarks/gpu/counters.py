"""Reads the hardware counters of the main loops with Nsight Compute."""

from __future__ import annotations

import csv
import functools
import os
import subprocess
from pathlib import Path

from benchmarks import ROOT
from benchmarks.gpu import target, tools
from benchmarks.gpu.job import Context, Job, Jobs, Row, Skipped
from benchmarks.gpu.results import Results

SECTIONS = (
    *("SpeedOfLight", "Occupancy", "WarpStateStats", "SchedulerStats"),
    *("MemoryWorkloadAnalysis", "LaunchStats", "ComputeWorkloadAnalysis"),
)
_KERNELS = "regex:(forward|backward)_kernel"


def jobs(context: Context, points: tuple[target.Point, ...], seconds: float) -> Jobs:
    """Yield a job for each point, within a limit of seconds."""
    for point in points:
        key = " ".join(map(str, point))
        yield Job(key, functools.partial(read, context, point, seconds), seconds + 10)


def read(context: Context, point: target.Point, seconds: float) -> Row:
    """Profile one forward and one backward kernel; the CSV stays in the folder."""
    name = "_".join(map(str, point)).replace(" ", "_")
    log = context.folder / f"ncu_{name}.csv"
    command = [tools.require("ncu"), "--csv", "--page", "raw", "--print-units", "base"]
    command += ["--clock-control", "none", "--kernel-name", _KERNELS, "--launch-count", "2"]
    command += [word for section in SECTIONS for word in ("--section", section)]
    command += ["--log-file", str(log)]
    command += target.command(Results(context.folder / "results.jsonl"), (point,))
    try:
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | target.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise Skipped(f"not finished within {seconds:g} s") from None
    kernels = parse(log) if log.exists() else []
    if not kernels:
        said = (log.read_text(errors="replace") if log.exists() else "") + result.stdout
        if "ERR_NVGPUCTRPERM" in said:
            raise Skipped("counters are for administrators here (ERR_NVGPUCTRPERM)")
        raise RuntimeError(f"ncu ended with {result.returncode}: {(said + result.stderr)[-1000:]}")
    return {"point": list(point), "kernels": kernels, "file": str(log)}


def parse(log: Path) -> list[Row]:
    """Return the metrics of each kernel from a file of ``--csv --page raw``.

    Its first row has names, its second units, each further row a kernel.
    """
    lines = [line for line in log.read_text(errors="replace").splitlines() if line[:1] == '"']
    rows = list(csv.DictReader(lines))
    units = rows[0] if rows else {}
    return [
        {
            "kernel": row.get("Kernel Name", ""),
            "metrics": {
                f"{name} [{units[name]}]" if units.get(name) else name: _number(value)
                for name, value in row.items()
                if name is not None and "__" in name and value
            },
        }
        for row in rows[1:]
    ]


def _number(text: str) -> float | str:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text
