"""Trains for a long time in one process, interrupted and resumed again and again.

    python -m benchmarks.trainer.soak --minutes 60

Two runs take turns: of images in memory, and of files that worker processes decode. In each cycle
a signal interrupts the run after some steps, and it is resumed. After each cycle resident memory,
open files and the speed are measured: memory must not grow by 1 MiB per 1,000 steps, the number of
open files not at all, and the last third of the cycles must be as fast as the first, relative to a
fixed computation beside it.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks import RESULTS, processor, write_rows
from simclr_ext.options.errors import TrainingInterrupted
from simclr_ext.trainer import Callback, ModelConfig, OptimConfig, TrainConfig, resume, train
from simclr_ext.trainer.progress import silence
from simclr_ext.trainer.training.state import Training

OUT = RESULTS / "soak.csv"
_IMAGES, _BATCH, _STEPS = 2048, 32, 256  # of an epoch, of a step, of a cycle
_GROWTH = 1.0  # MiB per 1,000 steps that are allowed
_SLOWER = 0.9  # least speed at the end, as a share of that at the start
_ROUNDS = 1000  # of the fixed computation
_WARM = 2  # cycles of each run before anything counts: caches and libraries fill


@dataclass(frozen=True)
class Cycle:
    """What is measured after a cycle.

    Attributes:
        run: "memory" or "files": where the images are.
        steps: Steps of both runs so far.
        minutes: Time so far.
        resident_mib: Resident memory of the process.
        open_files: Number of its open files.
        steps_per_second: Speed of this cycle's steps, per second of processor time.
        pace: The same of a fixed computation after the cycle: how fast a processor is depends on
            what runs beside it.
    """

    run: str
    steps: int
    minutes: float
    resident_mib: float
    open_files: int
    steps_per_second: float
    pace: float

    @property
    def speed(self) -> float:
        """Steps per fixed computation, whatever runs beside it."""
        return self.steps_per_second / self.pace


class Interrupt(Callback):
    """Sends a signal to this process after some steps, and measures their speed."""

    def __init__(self, steps: int) -> None:
        self._steps, self.done, self._start = steps, 0, 0.0
        self.seconds = 0.0

    def on_step(self, training: Training) -> None:
        if self.done == 0:  # the first step starts the workers
            self._start = time.process_time()
        self.done += 1
        if self.done == self._steps:
            self.seconds = time.process_time() - self._start
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=_STEPS, help="of a cycle")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cycles = []
    with tempfile.TemporaryDirectory() as folder, silence():
        for cycle in soak(Path(folder), options.minutes, options.steps):
            cycles.append(cycle)
            print(cycle, flush=True)
    write_rows(options.out, [field.name for field in fields(Cycle)], map(asdict, cycles))
    faults = judge(cycles)
    print(f"{processor()}: {summary(cycles)}")
    print("\n".join(faults) or "memory, open files and speed stay the same")
    return len(faults)


def soak(root: Path, minutes: float, steps: int) -> Iterator[Cycle]:
    """Train two runs in turn for some minutes, and yield what each cycle measured."""
    configs = dict(configurations(root))
    start, total = time.perf_counter(), 0
    while time.perf_counter() - start < 60 * minutes:
        for name, config in configs.items():
            interrupt = Interrupt(steps)
            try:
                if Path(str(config.out)).exists():
                    resume(str(config.out), callbacks=[interrupt])
                else:
                    train(config, callbacks=[interrupt])
            except TrainingInterrupted:
                total += interrupt.done
            if interrupt.done < steps:
                return  # by a signal of somebody else's, such as Ctrl-C
            gc.collect()  # so that what is left is in use
            yield Cycle(
                name,
                total,
                round((time.perf_counter() - start) / 60, 2),
                round(resident(), 2),
                len(os.listdir("/proc/self/fd")),  # noqa: PTH208 (no entries are needed)
                round((steps - 1) / interrupt.seconds, 2),
                round(pace(), 2),
            )


def configurations(root: Path) -> Iterator[tuple[str, TrainConfig]]:
    """Yield the runs, of images in memory and of files of different sizes, which are written."""
    random = np.random.default_rng(0)
    np.save(root / "images.npy", random.integers(0, 256, (_IMAGES, 8, 8), dtype=np.uint8))
    for number in range(_IMAGES):
        pixels = random.integers(0, 256, (10 + number % 5, 12, 3), dtype=np.uint8)
        path = root / "images" / str(number % 4) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    for name, data in {"memory": "images.npy", "files": "images"}.items():
        config = TrainConfig(
            data=str(root / data),
            out=str(root / name),
            image_size=8,
            epochs=1_000_000,  # the run never ends by itself
            batch_size=_BATCH,
            threads=1,
            evaluate=False,
            model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
            optim=OptimConfig(warmup_epochs=1),
        )
        yield name, config


def pace() -> float:
    """Return how often per second of processor time a small network is trained by a step."""
    images = torch.ones(_BATCH, 3, 8, 8)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten())
    start = time.process_time()
    for _ in range(_ROUNDS):
        network(images).square().mean().backward()
    return _ROUNDS / (time.process_time() - start)


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(cycles: Sequence[Cycle]) -> float:
    """Return the slope of the resident memory, in MiB per 1,000 steps, by least squares."""
    steps, memory = zip(*((cycle.steps, cycle.resident_mib) for cycle in cycles), strict=True)
    return float(1000 * np.polyfit(steps, memory, 1)[0])


def judge(cycles: Sequence[Cycle]) -> list[str]:
    """Return what is wrong: what grew, or became slower."""
    counted = cycles[2 * _WARM :]
    if len(counted) < 6:
        return ["too short: fewer than three cycles of each run after the first two"]
    faults = []
    if growth(counted) >= _GROWTH:
        faults.append(f"memory grows by {growth(counted):.2f} MiB per 1,000 steps")
    for name in dict.fromkeys(cycle.run for cycle in counted):
        own = [cycle for cycle in counted if cycle.run == name]
        third = max(1, len(own) // 3)
        files = [cycle.open_files for cycle in own]
        if max(files[-third:]) > max(files[:third]):
            faults.append(f"{name}: open files grow from {max(files[:third])} to {max(files)}")
        first, last = (
            statistics.median(cycle.speed for cycle in part) for part in (own[:third], own[-third:])
        )
        if last < _SLOWER * first:
            faults.append(f"{name}: the speed falls to {last / first:.2f} of that at the start")
    return faults


def summary(cycles: Sequence[Cycle]) -> str:
    """Return the measurements in one line."""
    last, counted = cycles[-1], cycles[2 * _WARM :] or cycles
    return (
        f"{last.steps:,} steps and {len(cycles)} cycles in {last.minutes:.0f} minutes; memory "
        f"{counted[0].resident_mib:.0f} to {last.resident_mib:.0f} MiB, {growth(counted):+.2f} MiB "
        f"per 1,000 steps; {last.open_files} open files"
    )


if __name__ == "__main__":
    sys.exit(main())
