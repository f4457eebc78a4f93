"""Runs the steps, each in its own process, within their limits and the total time.

Needs only the standard library: this process watches those that may hang or die.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT
from benchmarks.gpu import sentences
from benchmarks.gpu.job import Context, Step
from benchmarks.gpu.results import Results
from benchmarks.gpu.worker import BROKEN, HUNG, PARENT

LOST_JOBS = 3  # of a step, before the rest of it is given up
_SHORTEST = 3.0  # seconds; a step is not begun with less


@dataclass
class Runner:
    """Runs steps one after the other.

    Args:
        plan: The name of the plan, for the steps' processes.
        context: Device and folder.
        results: Where everything is written.
        minutes: For all steps together.
    """

    plan: str
    context: Context
    results: Results
    minutes: float

    def run(self, steps: Sequence[Step]) -> None:
        """Run the steps that are not done, until none is left or time is up."""
        deadline = time.monotonic() + 60 * self.minutes
        before = self.results.status_of_steps()
        for step in steps:
            if before.get(step.name) in ("done", "gave up"):
                continue
            obstacle = self._obstacle(step)
            if obstacle is not None:
                self._end(step, "skipped", 0.0, obstacle)
                continue
            left = deadline - time.monotonic()
            if left < _SHORTEST:
                return
            print(f"[{left:4.0f} s left] {step.name}", flush=True)
            self._run(step, left)

    def _obstacle(self, step: Step) -> str | None:
        if step.needs_gpu and not self.context.on_gpu:
            return f"it needs a CUDA device, not {self.context.device}"
        if step.needs_kernels and self.results.library() is None:
            return "the kernels could not be built"
        return None

    def _run(self, step: Step, left: float) -> None:
        start = time.monotonic()
        end = start + min(step.limit, left)
        lost = 0
        while True:
            self.results.append({"step": step.name, "event": "start"})
            code = self._process(step, end - time.monotonic())
            seconds = time.monotonic() - start
            if code == 0:
                return self._end(step, "done", seconds)
            under_way = self.results.under_way(step.name)
            if code is None:
                # A job that the total budget cut is done again by --resume; one that used up its
                # step's own limit would only do so again.
                if under_way is not None and step.limit <= left:
                    self._lose(step, under_way, f"killed at the step's limit of {step.limit:g} s")
                reason = "the step's limit" if step.limit <= left else "the time for all steps"
                return self._end(step, "cut", seconds, f"{reason} was up")
            if under_way is not None:
                hung = "beyond its own limit"
                reason = hung if code == HUNG else f"its process ended with {_name_of(code)}"
                self._lose(step, under_way, reason)
            lost += 1
            if lost > LOST_JOBS or (under_way is None and code != BROKEN):
                return self._end(step, "gave up", seconds, f"process ended with {_name_of(code)}")

    def _process(self, step: Step, seconds: float) -> int | None:
        """Run a step's process; return its exit code, None if time was up."""
        command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--worker", step.name]
        command += ["--plan", self.plan, "--device", self.context.device]
        command += ["--out", str(self.context.folder)]
        with self.log_of(step).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | dict(step.environment) | {PARENT: str(os.getpid())},
                start_new_session=True,  # a group of its own: what it starts is ended with it
            )
            try:
                return process.wait(max(0.0, seconds))
            except subprocess.TimeoutExpired:
                return None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def log_of(self, step: Step) -> Path:
        """Return the file that a step's processes print to."""
        return self.context.folder / f"{step.name.replace(' ', '_')}.log"

    def _lose(self, step: Step, job: str, reason: str) -> None:
        row = {"step": step.name, "job": job, "status": "lost", "reason": reason}
        self.results.append(row | {"log": self._tail(step)})
        print(f"  LOST {job}: {reason}", flush=True)

    def _end(self, step: Step, status: str, seconds: float, reason: str = "") -> None:
        row = {"step": step.name, "event": "end", "status": status, "seconds": round(seconds, 1)}
        if reason:
            row |= {"reason": reason}
        if status == "gave up":
            row |= {"log": self._tail(step)}
        self.results.append(row)
        for job in self.results.of_jobs(step.name):
            if job["status"] == "failed":
                print("\n    ".join([f"  FAILED {job['job']}", *sentences.of_job(job)]), flush=True)
        words = f"{status}: {reason}" if reason else status
        print(f"  {step.name}: {words}, after {seconds:.0f} s", flush=True)

    def _tail(self, step: Step) -> list[str]:
        path = self.log_of(step)
        return path.read_text(errors="replace").splitlines()[-30:] if path.exists() else []


def _name_of(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
