"""Runs small cases, and planted faults, under compute-sanitizer."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from pathlib import Path

from benchmarks import ROOT
from benchmarks.gpu import target, tools
from benchmarks.gpu.job import Context, Job, Jobs, Row, Skipped
from benchmarks.gpu.probes import program
from benchmarks.gpu.results import Results

_FOUND = 9  # its exit code if it finds something
# What each tool must find, to show that it checks these kernels.
_PLANTED = {"memcheck": "memory", "racecheck": "race"}


def jobs(
    context: Context, points: tuple[target.Point, ...], tools_: tuple[str, ...], seconds: float
) -> Jobs:
    """Yield a job for each tool on our kernels, then on a planted fault.

    Args:
        context: Device and folder.
        points: Precision, N, D and T of the cases.
        tools_: "memcheck", "racecheck", "synccheck" or "initcheck".
        seconds: Limit of each.
    """
    for tool in tools_:
        run = functools.partial(check, context, tool, points, seconds)
        yield Job(tool, run, seconds + 10)
    for tool in tools_:
        if tool in _PLANTED:
            yield Job(f"{tool}, planted fault", functools.partial(find_planted, context, tool), 60)


def check(context: Context, tool: str, points: tuple[target.Point, ...], seconds: float) -> Row:
    """Run our kernels under a tool; they fail if it finds anything."""
    command = target.command(Results(context.folder / "results.jsonl"), points)
    return watch(context.folder / f"{tool}.txt", tool, command, seconds, expected=False)


def find_planted(context: Context, tool: str) -> Row:
    """Run a kernel with a planted fault under a tool; fails if the tool finds nothing."""
    command = [str(program(context)), "plant", _PLANTED[tool]]
    return watch(context.folder / f"{tool}_planted.txt", tool, command, 40, expected=True)


def watch(log: Path, tool: str, command: list[str], seconds: float, *, expected: bool) -> Row:
    """Run a command under a tool; return whether it found anything, its log and its message."""
    watched = [tools.require("compute-sanitizer"), "--tool", tool, "--log-file", str(log)]
    watched += ["--error-exitcode", str(_FOUND), "--print-limit", "20"]
    # Only our kernels: torch's own copies and fills would take most of the time.
    watched += ["--kernel-name", "kernel_substring=simclr", *command]
    # Without the variable, an access beyond a tensor may stay within the allocator's block.
    environ = os.environ | target.environment() | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        result = subprocess.run(
            watched,
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise Skipped(f"not finished within {seconds:g} s; {log} has what it found") from None
    said = log.read_text(errors="replace") if log.exists() else ""
    errors = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.+)", said)
    row: Row = {"exit_code": result.returncode, "summary": errors, "log": str(log)}
    if result.returncode not in (0, _FOUND):  # the program's own failure, or the tool's
        return row | {"status": "failed", "error": (result.stdout + result.stderr)[-1500:]}
    if (result.returncode == _FOUND) != expected:
        words = "found nothing in a kernel with a fault" if expected else said[:3000]
        return row | {"status": "failed", "error": words}
    return row
