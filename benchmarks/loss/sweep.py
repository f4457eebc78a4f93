"""Compares the loss with its peers: time, memory and distance to the machine's limits, in one run.

    python -m benchmarks.loss.sweep [--plan quick|full|jax] [--out speed.csv] [--peers eager,...]

Every implementation is checked against float64 before it is timed, all are timed in the same
rounds, with the machine's own rates beside them, and memory is measured in processes of their own.
A row is appended as soon as it is measured; out of memory is a row too. Caches are warm: short
calls follow 20 ms of untimed ones.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import simclr_ext
from benchmarks import ROOT, processor
from benchmarks.loss import memory, peers, rows
from benchmarks.loss.cases import PLANS, Case, Plan
from simclr_ext.backends import loader
from simclr_ext.bench import machine
from simclr_ext.bench.baselines import Loss
from simclr_ext.bench.machine import Pass
from simclr_ext.bench.measure import CHECKED, Timing, check, interleaved, views
from simclr_ext.bench.memory import OUT_OF_MEMORY, allowance, attempt, available, limited

Contestants = Mapping[str, tuple[peers.Peer, Loss]]


def main(argv: list[str] | None = None) -> int:
    """Run a plan; print progress, add rows to the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", choices=PLANS, default="quick")
    parser.add_argument("--out", type=Path, default=rows.SPEED, help="CSV file to add rows to")
    parser.add_argument("--peers", help="names, separated by commas; default: all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--note", default="", help="kept with the run, after the plan's name")
    args = parser.parse_args(argv)
    if args.threads < 1:
        parser.error(f"--threads must be at least 1, got {args.threads}")
    names = None if args.peers is None else list(dict.fromkeys(args.peers.split(",")))
    chosen = [peer for peer in peers.PEERS if names is None or peer.name in names]
    if names is not None and len(chosen) != len(names):
        parser.error(f"--peers: {args.peers}: known are {', '.join(p.name for p in peers.PEERS)}")
    plan = PLANS[args.plan]
    run(plan, chosen, args.threads, args.out, f"{plan.name} {args.note}".strip())
    return 0


def run(plan: Plan, chosen: list[peers.Peer], threads: int, out: Path, label: str) -> str:
    """Measure all cases of a plan; return the name of the run."""
    found, skipped = peers.find(chosen)
    name = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    described = environment(chosen, skipped) | {"run": name, "plan": label}
    rows.append(out.with_name(rows.RUNS), rows.RUN_COLUMNS, [described])
    for line in (f"run {name}", *(f"{peer}: {reason}" for peer, reason in skipped.items())):
        print(line, flush=True)
    before = torch.get_num_threads()
    sweep = Sweep(plan, found)
    try:
        for case in plan.cases(threads):
            measured = sweep.measure(case)
            rows.append(out, rows.COLUMNS, ({"run": name} | row for row in measured))
            _say(case, measured)
    finally:
        torch.set_num_threads(before)
    return name


class Sweep:
    """Measures cases, and remembers what the larger ones will cost."""

    def __init__(self, plan: Plan, contestants: Contestants) -> None:
        self.plan = plan
        self.contestants = contestants
        self.seconds: dict[tuple[str, int], tuple[int, float]] = {}  # peer, d: N, seconds of a call
        self.too_large: dict[tuple[str, int, str], int] = {}  # peer, d, dtype: N beyond memory

    def measure(self, case: Case) -> list[dict[str, Any]]:
        """Return the rows of a case, one for each implementation and pass."""
        torch.set_num_threads(case.threads)
        torch.compiler.reset()  # otherwise beyond the recompilation limit it silently runs eagerly
        used = {name: self._prepare(name, case) for name in self.contestants}
        return [row for what in case.what for row in self._time(case, what, used)]

    def _prepare(self, name: str, case: Case) -> dict[str, Any]:
        """Return an implementation's status, and its memory if requested."""
        peer, loss = self.contestants[name]
        reason = self._obstacle(peer, case)
        if reason is not None:
            return {"status": reason}
        used: dict[str, Any] = {"status": "ok"}
        if case.memory:
            used = memory.usage(name, case, allowance())
        if used["status"] == "ok":
            smaller = views(min(case.n, CHECKED), case.d, getattr(torch, case.dtype))
            used["status"] = attempt(
                functools.partial(check, loss, peer.truth, smaller, case.temperature)
            )
        return used

    def _obstacle(self, peer: peers.Peer, case: Case) -> str | None:
        """Return why an implementation is not run at all."""
        if (obstacle := peer.obstacle(case.threads)) is not None:
            return obstacle
        if self.too_large.get((peer.name, case.d, case.dtype), sys.maxsize) <= case.n:
            return OUT_OF_MEMORY
        n, seconds = self.seconds.get((peer.name, case.d), (0, 0.0))
        expected = seconds * (case.n / n) ** 2 if n else 0.0
        if expected > self.plan.longest:
            return f"skipped: a call would take about {expected:.0f} s"
        return None

    def _time(
        self, case: Case, what: Pass, used: dict[str, dict[str, Any]]
    ) -> list[dict[str, Any]]:
        inputs = views(case.n, case.d, getattr(torch, case.dtype))
        calls: dict[str, Callable[[], object]] = {}
        with limited(allowance()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, (peer, loss) in self.contestants.items():
                if used[name]["status"] == "ok":
                    call = peer.timed(loss, inputs, case.temperature, what)
                    used[name]["status"] = attempt(call)  # compiles
                    if used[name]["status"] == "ok":
                        calls[name] = call
            probes = machine.probes()
            timings = interleaved(calls | probes, seconds=self.plan.seconds)
        rates = machine.rates(timings)
        common = {
            "what": what,
            "n": case.n,
            "d": case.d,
            "dtype": case.dtype,
            "threads": case.threads,
            "temperature": case.temperature,
            "mm_gflops": rates.mm / 1e9,
            "product_gflops": rates.product / 1e9,
            "exp_gps": rates.exp / 1e9,
            "memory_gbps": rates.memory / 1e9,
        }
        floor = machine.floor(case.n, case.d, what, inputs[0].element_size(), rates)
        return [
            common
            | {"peer": name, "floor_ms": 1e3 * floor}
            | self._row(name, case, what, timings, used)
            for name in self.contestants
        ]

    def _row(
        self,
        name: str,
        case: Case,
        what: Pass,
        timings: Mapping[str, Timing],
        used: dict[str, dict[str, Any]],
    ) -> dict[str, Any]:
        row = {"problem": self.contestants[name][0].problem, "status": used[name]["status"]}
        if what == "forward + backward":  # memory is that of both
            row |= used[name]
        if (timing := timings.get(name)) is None:
            if row["status"] == "ok":  # it fits alone, but not beside the others
                row["status"] = OUT_OF_MEMORY
            if row["status"] == OUT_OF_MEMORY:
                key = (name, case.d, case.dtype)
                self.too_large[key] = min(case.n, self.too_large.get(key, case.n))
            return row
        self.seconds[name, case.d] = (case.n, timing.median)
        return row | {
            "rounds": timing.rounds,
            "ms": 1e3 * timing.median,
            "ms_low": 1e3 * timing.low,
            "ms_high": 1e3 * timing.high,
            "foreign": timing.foreign,
        }


def environment(chosen: list[peers.Peer], skipped: Mapping[str, str]) -> dict[str, Any]:
    """Return the measurement environment."""
    module = loader.load()
    found = peers.versions(chosen)
    return {
        "commit": _commit(),
        "machine": processor(),
        "cores": os.cpu_count(),
        "memory_gib": available() / 2**30,
        "isa": module.active_isa(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "simclr-ext": simclr_ext.__version__,
        "peers": "; ".join(f"{package} {version}" for package, version in found.items()),
        "skipped": "; ".join(f"{peer}: {reason}" for peer, reason in skipped.items()),
    }


def _commit() -> str:
    """Return the checkout's commit, with a plus where something has changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=10", "--exclude=*"]
    try:
        done = subprocess.run([*command, "--dirty=+"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _say(case: Case, measured: list[dict[str, Any]]) -> None:
    ours = {row["what"]: row["ms"] for row in measured if row["peer"] == peers.OURS and "ms" in row}
    listed = "; ".join(f"{what} {ms:.3g} ms" for what, ms in ours.items())
    precise = f"{case.dtype}, {case.threads} threads, T = {case.temperature:g}"
    print(f"N = {case.n:,}, D = {case.d}, {precise}: {peers.OURS} {listed}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
