"""Runs the trainer's demo: real images, from augmentation to probes."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from importlib.util import find_spec

from benchmarks.gpu.job import Context, Job, Jobs, Row, Skipped


def jobs(context: Context, seconds: float, epochs: int | None = None) -> Jobs:
    """Yield the one job; `epochs` None: the demo's own number."""
    yield Job("demo", functools.partial(run, context, epochs), seconds)


def run(context: Context, epochs: int | None) -> Row:
    """Train on the device and return the accuracies."""
    from simclr_ext.options.extras import EXTRA_PACKAGES
    from simclr_ext.trainer import DEMO, train

    missing = [name for module, name in EXTRA_PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise Skipped(f"the trainer needs {', '.join(missing)}")
    folder = context.folder / "demo"
    shutil.rmtree(folder, ignore_errors=True)  # from an interrupted run
    config = dataclasses.replace(
        DEMO, device=context.device, out=str(folder), epochs=epochs or DEMO.epochs
    )
    return {"report": str(train(config)).splitlines()}
