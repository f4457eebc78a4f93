"""Runs the jobs of a step that have no result yet, in this process."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import time
import traceback

from benchmarks.gpu.job import Context, Job, Row, Skipped, Step
from benchmarks.gpu.results import Results

BROKEN = 70  # exit code: a CUDA error that no call of this process will survive
HUNG = 1  # exit code of faulthandler during a job; exceptions of a job do not end the process
PARENT = "GPU_CHECK_PARENT"  # variable: the process that watches this one
_PR_SET_PDEATHSIG = 1


def work(step: Step, context: Context, results: Results) -> int:
    """Run the jobs; return the exit code: 0 if none is left, BROKEN to continue in a new process.

    A job beyond its time limit ends the process, wherever it hangs: the thread of faulthandler
    needs neither Python's lock nor an answer from the GPU.
    """
    _die_with_parent()
    done = results.done(step.name)
    for job in importlib.import_module(step.jobs).jobs(context, **step.options):
        if job.key in done:
            continue
        results.append({"step": step.name, "event": "begin", "job": job.key})
        faulthandler.dump_traceback_later(job.limit, exit=True)
        row = result_of(job, step.name)
        faulthandler.cancel_dump_traceback_later()
        results.append(row)
        print(f"{step.name}: {job.key}: {row['status']}", flush=True)
        if _broken():
            return BROKEN
    return 0


def result_of(job: Job, step: str) -> Row:
    """Run a job and return its row, whatever it raises."""
    start = time.perf_counter()
    try:
        found = job.run()
        if _cuda_is_used():
            sys.modules["torch"].cuda.synchronize()  # so that errors of its kernels are raised here
    except Skipped as reason:
        found = {"status": "skipped", "reason": str(reason)}
    except Exception as error:  # any failure is a result; continue with the other jobs
        status = "out of memory" if _is_out_of_memory(error) else "failed"
        found = {"status": status, "error": f"{type(error).__name__}: {error}"}
        found["traceback"] = traceback.format_exc().splitlines()[-12:]
    row = {"step": step, "job": job.key, "status": "ok", **found}
    return row | {"seconds": round(time.perf_counter() - start, 3)}


def _is_out_of_memory(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from simclr_ext.bench.memory import is_out_of_memory

    return is_out_of_memory(error)


def _cuda_is_used() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _broken() -> bool:
    """Return whether this process can no longer use the GPU."""
    if not _cuda_is_used():
        return False
    torch = sys.modules["torch"]
    try:
        torch.cuda.empty_cache()
        torch.ones(2, device="cuda").sum().item()
    except RuntimeError as error:
        print(f"the GPU is lost to this process: {error}", flush=True)
        return True
    return False


def _die_with_parent() -> None:
    """End this process with the one that started it: else two processes write after --resume."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if str(os.getppid()) != os.environ.get(PARENT, str(os.getppid())):
            sys.exit("the process that started this one is gone already")
