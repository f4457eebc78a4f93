"""Checks and times the loss on an NVIDIA GPU, and writes one file of results.

    python benchmarks/gpu_check.py [--device cuda] [--out gpu_check.json] [--quick] [--sanitizer]
    python benchmarks/gpu_check.py --table gpu_check.json

Every backend is checked against float64 first, over the cases of gpu_cases.py; one that fails is
not timed, and the exit code is 1. The file is written after every step, so that none is lost.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch

import peers
import simclr_ext
from gpu_cases import (
    BFLOAT16,
    FLOAT32,
    FULL,
    QUICK,
    SANITIZED,
    TF32,
    Plan,
    Precision,
    Row,
    fp32_precision,
    run_cases,
)
from peers import Peer
from simclr_ext import _backend
from simclr_ext.bench.baselines import Loss
from simclr_ext.bench.measure import Timing, check, forward_backward, interleaved, views
from simclr_ext.bench.memory import OUT_OF_MEMORY, attempt, peak
from simclr_ext.selection import BackendUnavailableError, select_backend

TEMPERATURE = 0.5
CPU_LARGEST = 4096  # beyond, a dense peer takes more memory than a process is given
CHECKED = (300, 64)  # N and D of a peer's check
# Relative, of a peer's loss and gradients: its own rounding, TF32's too, is no fault.
LARGEST_ERROR = {torch.float32: 1e-2, torch.bfloat16: 0.1}
Contestants = dict[str, tuple[Peer, Loss]]


def main(argv: list[str] | None = None, plan: Plan | None = None) -> int:
    """Run everything; return 0 if all that was checked is right, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--quick", action="store_true", help="fewer cases and timings")
    parser.add_argument("--sanitizer", action="store_true", help="run under compute-sanitizer too")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of a file")
    parser.add_argument("--sanitized", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.table is not None:
        print(table(json.loads(args.table.read_text(encoding="utf-8"))))
        return 0
    device = torch.device(args.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            parser.error("--device cuda: torch sees no CUDA device")
        torch.cuda.set_device(device)
    plan = plan or (SANITIZED if args.sanitized else QUICK if args.quick else FULL)

    results: dict[str, Any] = {"environment": environment(device), "checks": {}, "timings": []}
    save(results, args.out)
    for backend in ("fused", "tiled"):
        results["checks"][backend] = check_backend(plan, backend, device)
        save(results, args.out)
    results["sanitizer"] = sanitize(device) if args.sanitizer else "not run: not asked for"
    save(results, args.out)
    for row in time_all(plan, device, results["checks"]):
        results["timings"].append(row)
        save(results, args.out)
    print(table(json.loads(args.out.read_text(encoding="utf-8"))))
    return 0 if is_right(results) else 1


def save(results: dict[str, Any], path: Path) -> None:
    """Replace the file at once: it is never half written."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(results, indent=1), encoding="utf-8")
    part.replace(path)


def is_right(results: dict[str, Any]) -> bool:
    """Return whether every backend could be checked, none was wrong, and none failed when timed."""
    checks = results["checks"].values()
    failed = any(backend["failed"] or "unavailable" in backend for backend in checks)
    sanitizer = results["sanitizer"]
    faults = isinstance(sanitizer, dict) and any(rc != 0 for rc in sanitizer.values())
    broken = any(
        row["peer"] in OF_BACKEND.values() and row["status"].startswith("failed")
        for row in results["timings"]
    )
    return not (failed or faults or broken)


def environment(device: torch.device) -> Row:
    """Return what the numbers are measured on."""
    found: Row = {
        "date": str(date.today()),
        "simclr-ext": simclr_ext.__version__,
        "commit": _first_line(["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]),
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "device": str(device),
    }
    try:
        module = _backend.load()
        found["kernels"] = f"built {_backend.how_built(module)} by {module.compiler}"
        found["CUDA architectures"] = ", ".join(module.cuda_architectures) or "none"
        found["CUDA of kernels"] = module.cuda_version
    except BackendUnavailableError as error:
        found["kernels"] = f"unavailable: {error}"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["GPU"] = properties.name
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["memory GiB"] = round(properties.total_memory / 2**30, 1)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = _first_line(query)
    return found


def _first_line(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.partition("\n")[0] if result.returncode == 0 else None


def check_backend(plan: Plan, backend: str, device: torch.device) -> dict[str, Any]:
    """Run a backend's cases and print those that fail."""
    try:
        select_backend(torch.empty(1, 1, device=device), backend)
    except BackendUnavailableError as error:
        print(f"{backend}: not available: {error}", flush=True)
        return {"cases": 0, "failed": [], "unavailable": str(error)}
    rows = list(run_cases(plan, backend, device))
    failed = [row for row in rows if row["faults"]]
    for row in failed:
        print(f"FAILED {row}", flush=True)
    used = [share for row in rows for share in row["budget_used"].values()]
    print(f"{backend}: {len(rows) - len(failed)} of {len(rows)} cases are right", flush=True)
    return {"cases": len(rows), "failed": failed, "largest_budget_used": max(used, default=None)}


def sanitize(device: torch.device) -> dict[str, int] | str:
    """Return the exit code of each tool of compute-sanitizer, or why there is none."""
    if device.type != "cuda":
        return f"not run: compute-sanitizer is for CUDA, not for {device}"
    program = shutil.which("compute-sanitizer")
    if program is None:
        return "not run: compute-sanitizer is not on the PATH"
    codes = {}
    for tool in ("memcheck", "racecheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9"]
        command += ["--kernel-name", "kernel_substring=simclr"]
        command += [sys.executable, __file__, "--device", str(device), "--sanitized"]
        # Without it, an access beyond a tensor may stay within the allocator's block.
        environ = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        with tempfile.TemporaryDirectory() as folder:
            command_out = [*command, "--out", str(Path(folder, "checks.json"))]
            codes[tool] = subprocess.run(command_out, env=environ, check=False).returncode
    return codes


def contestants(checks: dict[str, Any], device: torch.device) -> tuple[Contestants, dict[str, str]]:
    """Return the losses to time, and why the others are not."""
    found, skipped = peers.find(peers.PEERS, device.type)
    for backend, result in checks.items():
        if result["failed"]:
            skipped[OF_BACKEND[backend]] = f"skipped: {len(result['failed'])} checks failed"
        elif "unavailable" in result:
            skipped[OF_BACKEND[backend]] = "skipped: not available"
    return {name: pair for name, pair in found.items() if name not in skipped}, skipped


# The peer that a backend is.
OF_BACKEND = {"fused": peers.ours.FUSED.name, "tiled": peers.ours.TILED.name}


def time_all(plan: Plan, device: torch.device, checks: dict[str, Any]) -> Iterator[Row]:
    """Yield a row for each precision, size and contestant."""
    if not plan.timed:
        return
    losses, skipped = contestants(checks, device)
    cuda = device.type == "cuda"
    for precision in (BFLOAT16, FLOAT32, TF32) if cuda else (BFLOAT16, FLOAT32):
        with fp32_precision(precision.mode):
            wrong = {
                name: attempt(
                    functools.partial(
                        check,
                        loss,
                        peer.truth,
                        views(*CHECKED, precision.dtype, device),
                        TEMPERATURE,
                        LARGEST_ERROR[precision.dtype],
                    )
                )
                for name, (peer, loss) in losses.items()
            }
            for d in plan.timed_dims:
                for n in plan.timed:
                    if cuda or n <= CPU_LARGEST:
                        yield from time_size(n, d, precision, device, losses, wrong, plan.rounds)
    for name, reason in skipped.items():
        yield {"peer": name, "status": reason}


def time_size(
    n: int,
    d: int,
    precision: Precision,
    device: torch.device,
    losses: Contestants,
    checked: dict[str, str],
    rounds: int,
) -> list[Row]:
    """Time forward + backward of all losses on views [n, d]."""
    torch.compiler.reset()  # else the limit of recompilations turns it into eager, silently
    z = views(n, d, precision.dtype, device)
    calls, rows = {}, []
    for name, (_, loss) in losses.items():
        status, row = checked[name], {"peer": name, "precision": precision.name, "n": n, "d": d}
        if status == "ok":
            calls[name] = functools.partial(forward_backward, loss, z, TEMPERATURE)
            status = attempt(calls[name])  # compiles and tunes
        if status != "ok":
            calls.pop(name, None)
        elif device.type == "cuda":
            row["peak_mib"] = peak(calls[name], device) / 2**20
        rows.append(row | {"status": status})
    timed = (cuda_interleaved if device.type == "cuda" else interleaved)(calls, rounds)
    for row in rows:
        if (timing := timed.get(str(row["peer"]))) is not None:
            row |= {"ms": 1e3 * timing.median}
            row |= {"ms_low": 1e3 * timing.low, "ms_high": 1e3 * timing.high}
        elif row["status"] == "ok":
            row["status"] = OUT_OF_MEMORY
    print(f"timed {precision.name}, N = {n}, D = {d}", file=sys.stderr, flush=True)
    return rows


def cuda_interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time all calls in turn by CUDA events, as interleaved does by the clock."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if name not in samples:
                continue
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            try:
                call()  # untimed: the caches are this call's own then
                start.record()
                call()
            except torch.OutOfMemoryError:  # it fitted alone, but not beside the others
                del samples[name]
                continue
            end.record()
            end.synchronize()
            samples[name].append(start.elapsed_time(end) / 1e3)
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in samples.items()}
    return {
        name: Timing(middle, low, high, rounds, foreign=0.0)
        for name, (low, middle, high) in quartiles.items()
    }


def table(results: dict[str, Any]) -> str:
    """Return a file of results as Markdown."""
    lines = ["| environment | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in results["environment"].items()]
    lines += ["", "| backend | cases | failed | note |", "|---|---:|---:|---|"]
    for name, result in results["checks"].items():
        note = result.get("unavailable", "").partition("\n")[0]
        lines.append(f"| {name} | {result['cases']} | {len(result['failed'])} | {note} |")
    lines += ["", f"compute-sanitizer: {results.get('sanitizer', 'not run: cut off before')}"]
    rows = [row for row in results["timings"] if "n" in row]
    names = list(dict.fromkeys(row["peer"] for row in rows))
    for precision in dict.fromkeys(row["precision"] for row in rows):
        title = f"{precision}: forward + backward, ms [quartiles], memory"
        lines += ["", title, "", f"| N | D | {' | '.join(names)} |"]
        lines.append("|---:" * (len(names) + 2) + "|")
        cells = {(r["n"], r["d"], r["peer"]): r for r in rows if r["precision"] == precision}
        for n, d in dict.fromkeys((n, d) for n, d, _ in cells):
            line = " | ".join(_cell(cells[n, d, name]) for name in names)
            lines.append(f"| {n:,} | {d} | {line} |")
    reasons = [row for row in results["timings"] if "n" not in row]
    lines += ["", *(f"- {row['peer']}: {row['status']}" for row in reasons)]
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if row["status"] != "ok":
        return str(row["status"])
    memory = f", {row['peak_mib']:,.0f} MiB" if "peak_mib" in row else ""
    return f"{row['ms']:.3g} [{row['ms_low']:.3g}, {row['ms_high']:.3g}]{memory}"


if __name__ == "__main__":
    sys.exit(main())
