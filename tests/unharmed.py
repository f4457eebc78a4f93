"""Runs that are harmed in processes of their own, and what differs from one that was not."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from simclr_ext.options.errors import CheckpointError
from simclr_ext.studies import StudyConfig, run_study
from simclr_ext.trainer import (
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
    resume,
    train,
)

_TIMES = ("seconds", "epoch_seconds", "images_per_second")  # what differs between equal runs
_EVENTS = "events.out.tfevents"


@dataclasses.dataclass
class Kind:
    """What is harmed.

    Attributes:
        root: Folder of its runs.
        start: Works in a new folder, from the start to the end.
        go_on: The same in a folder in which that ended early.
        differences: Yields what differs between two folders, the first of which was harmed.
    """

    root: Path
    start: Callable[[Path], object]
    go_on: Callable[[Path], object]
    differences: Callable[[Path, Path], Iterator[str]]


def run(act: Callable[[], object], kill_after: float = math.inf) -> tuple[int, str]:
    """Run a function in a fork of this process; return its exit code and what it printed.

    Args:
        act: The function.
        kill_after: Seconds after which it is killed, so that the code is -9, unless it has ended.
    """
    sys.stdout.flush()
    output, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _run_and_exit(act, theirs)
    os.close(theirs)
    text, end = b"", time.monotonic() + kill_after
    while True:  # until the child has closed its end
        wait = None if end == math.inf else max(0.0, end - time.monotonic())
        if not select.select([output], [], [], wait)[0]:
            os.kill(child, signal.SIGKILL)
            end = math.inf
        elif part := os.read(output, 2**16):
            text += part
        else:
            break
    os.close(output)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text.decode(errors="replace")


def _run_and_exit(act: Callable[[], object], output: int) -> NoReturn:
    os.dup2(output, 1)
    os.dup2(output, 2)
    code: Any = 0
    try:
        act()
    except SystemExit as end:
        code = end.code
    except BaseException:  # the parent reads it
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def training(root: Path) -> Kind:
    """Return a training of a second or two that writes every file that a run can have."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (96, 8, 8), dtype=np.uint8)
    data = root / "tiny ünïcode.npz"
    labels = np.arange(96) % 2
    np.savez(
        data,
        train_images=images[:72],
        train_labels=labels[:72],
        test_images=images[72:],
        test_labels=labels[72:],
    )
    monitor = MonitorConfig(
        knn_every=4,
        checkpoint_steps=2,
        keep_epochs=8,
        metrics_every=3,
        loggers=("csv", "jsonl", "tensorboard"),
    )
    config = TrainConfig(
        data=str(data),
        image_size=8,
        epochs=24,
        batch_size=16,
        threads=1,
        model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
        optim=OptimConfig(warmup_epochs=1),
        monitor=monitor,
    )

    def start(folder: Path) -> None:
        train(dataclasses.replace(config, out=str(folder)))

    def go_on(folder: Path) -> None:
        try:
            resume(folder)
        except CheckpointError as error:
            if "start a new one" not in str(error):
                raise
            start(folder)  # as the message says

    return Kind(root, start, go_on, run_differences)


def run_differences(folder: Path, whole: Path) -> Iterator[str]:
    """Yield what differs between two run folders, but for times."""
    names, expected = ({_name(path) for path in place.iterdir()} for place in (folder, whole))
    yield from (f"{name} is missing" for name in expected - names)
    yield from (f"{name} should not be there" for name in names - expected)
    for name in sorted(names & expected):
        ours, theirs = folder / name, whole / name
        if name == "checkpoint-previous.pt":  # that of another step
            torch.load(ours, weights_only=True)
        elif name == _EVENTS:
            if _scalars(folder) != _scalars(whole):
                yield f"{name} differs"
        elif _timeless(ours) != _timeless(theirs):
            yield f"{name} differs"


def _name(path: Path) -> str:
    return _EVENTS if path.name.startswith(_EVENTS) else path.name


def _timeless(path: Path) -> Any:
    """Return the contents of a file, comparable, without times."""
    if path.suffix == ".pt":
        return _comparable(torch.load(path, weights_only=True))
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return _comparable(list(csv.DictReader(file)))
    if path.suffix in (".json", ".jsonl"):
        lines = path.read_text(encoding="utf-8")
        parts = lines.splitlines() if path.suffix == ".jsonl" else [lines]
        return _comparable([json.loads(part) for part in parts])
    contents = path.read_bytes()
    return b"\n".join(line for line in contents.split(b"\n") if b"Machine time" not in line)


def _comparable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return str(value.dtype), list(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items() if key not in _TIMES}
    return list(map(_comparable, value)) if isinstance(value, list | tuple) else value


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    board = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in board.Scalars(tag)]
        for tag in board.Tags()["scalars"]
        if not tag.endswith(_TIMES)
    }


def study(root: Path) -> Kind:
    """Return a study at the tiny scale."""

    def start(folder: Path) -> None:
        run_study(StudyConfig("tsne", out=str(folder), seeds=1, threads=1))

    return Kind(root, start, start, study_differences)


def study_differences(folder: Path, whole: Path) -> Iterator[str]:
    """Yield what differs between the folders of two studies, but for times."""
    names, expected = (
        {str(path.relative_to(place)) for path in place.rglob("*")} for place in (folder, whole)
    )
    yield from (f"{name} is missing" for name in expected - names)
    yield from (f"{name} should not be there" for name in names - expected)
    for name in sorted(names & expected):
        if (whole / name).is_file() and _timeless(folder / name) != _timeless(whole / name):
            yield f"{name} differs"
