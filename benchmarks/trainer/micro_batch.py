"""One training step on a batch of 8,192 pairs: time and peak memory, in one pass and in two.

Every measurement has its own process, whose peak resident memory is read at its end. Before
anything is timed, the two-pass gradient is checked against the one-pass one in float64.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import subprocess
import sys
import time

import torch
from torch import nn
from torch.amp import GradScaler

from benchmarks import RESULTS, ROOT, write_rows
from simclr_ext import nt_xent_loss
from simclr_ext.trainer import PRESETS
from simclr_ext.trainer.data import Dataset, Part
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.training.gradient import one_pass, two_pass
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.state import Training
from simclr_ext.trainer.views.batches import build_source

OUT = RESULTS / "micro_batch.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8192, help="N, pairs of a step")
    parser.add_argument("--chunks", type=int, nargs="*", default=[256, 1024], help="micro_batch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measure(options.batch, options.child, options.threads)))
        return
    check_gradients()
    rows = []
    for chunk in (*options.chunks, options.batch):
        command = [sys.executable, "-m", "benchmarks.trainer.micro_batch"]
        command += ["--batch", str(options.batch), "--threads", str(options.threads)]
        command += ["--child", str(chunk)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    write_rows(OUT, rows[0], rows)


def measure(batch: int, chunk: int, threads: int) -> dict[str, float]:
    """Return time and peak memory of one step of `cpu-small`; a chunk of the batch is one pass."""
    torch.set_num_threads(threads)
    micro_batch = None if chunk == batch else chunk
    config = dataclasses.replace(
        PRESETS["cpu-small"], batch_size=batch, micro_batch=micro_batch, threads=threads
    ).resolve(3, 32, 32)
    images = torch.randint(256, (batch, 3, 32, 32), dtype=torch.uint8)
    part = Part.of(images, torch.arange(batch) % 10)
    data = Dataset("noise", part, part, tuple("0123456789"))
    model = SimCLR(config.model, 3).to(memory_format=torch.channels_last)
    training = Training.start(model, config)
    source = build_source(data, config)
    nt_xent_loss(torch.eye(2), torch.eye(2))  # compiled and loaded before the clock starts
    before = peak_memory()
    start = time.perf_counter()
    next(iter(pretrain(training, source, config)))
    seconds = time.perf_counter() - start
    assert math.isfinite(training.epochs[-1].loss)
    return {
        "batch": batch,
        "micro_batch": chunk,
        "threads": threads,
        "seconds": round(seconds, 1),
        "images_per_second": round(batch / seconds),
        "before_mib": round(before),
        "peak_mib": round(peak_memory()),
    }


def peak_memory() -> float:
    """Return the process's peak resident memory in MiB (Linux reports KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def check_gradients() -> None:
    """Assert that both ways give the same gradient where images are independent of each other."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)).double()
    batch = torch.rand(24, 3, 8, 8, dtype=torch.float64)
    off = GradScaler("cpu", enabled=False)
    gradients = []
    for way in (one_pass, lambda *rest: two_pass(*rest, micro_batch=5, model=model)):
        model.zero_grad()
        way(lambda c, _: model(torch.cat([c, c.flip(3)])), batch, nt_xent_loss, off)
        gradients.append([p.grad for p in model.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


if __name__ == "__main__":
    main()
