"""Jobs that fail in every way, and the plans that hold them; needs no torch."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from benchmarks.gpu.job import Context, Job, Jobs, Row, Skipped, Step

_HERE = __name__


def jobs(context: Context, keys: tuple[str, ...], limit: float = 30.0) -> Jobs:
    for key in keys:
        yield Job(key, lambda key=key: act(context.folder, key), limit)


def act(folder: Path, key: str) -> Row:
    with (folder / "acted").open("a") as file:
        file.write(f"{key}\n")
    what = key.partition(" ")[0]
    if what == "hang" and not (folder / "no hanging").exists():
        time.sleep(600)
    if what == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "raise":
        raise ValueError("planted")
    if what == "skip":
        raise Skipped("planted reason")
    return {"value": 1}


def step(name: str, *keys: str, limit: float = 60.0, job_limit: float = 30.0) -> Step:
    options = {"keys": keys, "limit": job_limit}
    return Step(name, _HERE, limit, options, needs_kernels=False)


HANGING_JOB = (step("first", "one", "hang", "two", job_limit=2.0), step("second", "three"))
DYING_JOB = (step("first", "die", "one"), step("second", "raise", "skip", "two"))
DYING_AGAIN = (step("first", "die 1", "die 2", "die 3", "die 4", "one"), step("second", "two"))
HANGING_STEP = (step("first", "one", "hang", "two", limit=8.0), step("second", "three"))
SLOW = (step("first", "one", "two"), step("second", "three", "hang", "four"), step("third", "five"))
BROKEN = (Step("first", "no.such.module", 20, needs_kernels=False), step("second", "one"))
WITHOUT_KERNELS = (
    Step("first", _HERE, 20, {"keys": ("one",)}),
    Step("second", _HERE, 20, {"keys": ("one",)}, needs_kernels=False, needs_gpu=True),
    step("third", "two"),
)
