"""Runs the cells of a study; finished cells are never run again.

A finished cell's rows are written as a whole to cells/<id>.json; the error of a failed one is
written to cells/<id>.error, in one line, followed by its traceback. So a sweep may be interrupted
at any moment, and the next one runs the cells that are not finished.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from simclr_ext.options.errors import RunFolderError, TrainingInterrupted
from simclr_ext.options.threads import threads
from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.engine.scales import open_context
from simclr_ext.studies.engine.study import Cell, Context, Row, load_study
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.progress import Progress, say
from simclr_ext.trainer.training.process import StopRequest, stop_request

_POLL_SECONDS = 0.5  # between checks for a signal


@dataclass(frozen=True)
class Outcome:
    """The outcome of a cell.

    Attributes:
        cell: The cell.
        rows: Its rows, with variant and seed; empty if it failed.
        seconds: Time that it took.
        error: If it failed, the error in one line, followed by its traceback.
    """

    cell: Cell
    rows: tuple[Row, ...] = ()
    seconds: float = 0.0
    error: str | None = None


def sweep(config: StudyConfig, cells: Sequence[Cell], context: Context, folder: Path) -> None:
    """Run the cells that are not finished, including those that failed before.

    Args:
        config: The study.
        cells: Its cells.
        context: What `open_context` returns.
        folder: The study's folder, which exists.

    Raises:
        RunFolderError: The folder of the cells cannot be created.
        TrainingInterrupted: A signal arrived; the cells that were running were finished first. A
            second signal interrupts at once.
    """
    try:
        (folder / "cells").mkdir(exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"out: cannot create {folder / 'cells'}: {error.strerror}") from error
    outcomes(folder, cells)  # before hours of work: a file that cannot be read is an error
    todo = _missing(folder, cells)
    progress = Progress(config.study, len(cells), len(cells) - len(todo))
    with progress, stop_request() as stop:
        if config.jobs == 1:
            done = _run_here(config, todo, context, folder, stop)
        else:
            done = _run_in_processes(config, todo, folder, stop)
        for cell in done:
            if _file(folder, cell, "error").exists():
                say(f"failed: {cell.id}; the other cells continue")
            progress.advance(cell.id)
    if stop.signal is not None:
        raise TrainingInterrupted(
            f"{len(cells) - len(_missing(folder, cells))} of {len(cells)} cells are finished in "
            f"{folder}; the same command resumes",
            stop.signal,
        )


def outcomes(folder: Path, cells: Sequence[Cell]) -> list[Outcome]:
    """Return the outcomes of the cells, in order, without those that were not started.

    Raises:
        RunFolderError: The file of a finished cell is damaged.
    """
    found = []
    for cell in cells:
        file, error = _file(folder, cell, "json"), _file(folder, cell, "error")
        if file.exists():
            found.append(_finished(cell, file))
        elif error.exists():
            found.append(Outcome(cell, error=error.read_text(encoding="utf-8", errors="replace")))
    return found


def _finished(cell: Cell, file: Path) -> Outcome:
    """Return the outcome of a cell whose rows are in a file."""
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
        rows = tuple(map(dict, contents["rows"]))
        return Outcome(cell, rows, float(contents["seconds"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunFolderError(
            f"out: {file} is damaged ({reason}): delete it, and this cell is run again"
        ) from error


def _missing(folder: Path, cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if not _file(folder, cell, "json").exists()]


def _file(folder: Path, cell: Cell, suffix: str) -> Path:
    return folder / "cells" / f"{cell.id}.{suffix}"


def _run_here(
    config: StudyConfig, cells: Sequence[Cell], context: Context, folder: Path, stop: StopRequest
) -> Iterator[Cell]:
    """Run cells one after another, and yield each one that ended."""
    with threads(config.threads):
        for cell in cells:
            if stop.signal is not None:
                return
            _run_cell(config, cell, lambda: context, folder)
            yield cell


def _run_in_processes(
    config: StudyConfig, cells: Sequence[Cell], folder: Path, stop: StopRequest
) -> Iterator[Cell]:
    """Run each cell in its own process, some at a time, and yield those that ended.

    A cell that crashes does not affect the others.
    """
    # Spawned, because a fork of a process with threads may hang.
    spawn = multiprocessing.get_context("spawn")
    todo, running = list(cells), dict[SpawnProcess, Cell]()
    while running or (todo and stop.signal is None):
        while todo and len(running) < config.jobs and stop.signal is None:
            cell = todo.pop(0)
            # Daemons end with this process if it is interrupted a second time.
            process = spawn.Process(target=_child, args=(config, cell, folder), daemon=True)
            process.start()
            running[process] = cell
        wait([process.sentinel for process in running], timeout=_POLL_SECONDS)
        for process in [process for process in running if process.exitcode is not None]:
            cell = running.pop(process)
            finished = _file(folder, cell, "json").exists()
            if process.exitcode != 0 and not finished and stop.signal is None:
                text = f"the cell's process ended with exit code {process.exitcode}\n"
                write_text(_file(folder, cell, "error"), text)
            yield cell


def _child(config: StudyConfig, cell: Cell, folder: Path) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for number in (signal.SIGINT, signal.SIGHUP):  # the parent decides what a terminal ends
        signal.signal(number, signal.SIG_IGN)
    with threads(config.threads or max(1, torch.get_num_threads() // config.jobs)):
        _run_cell(config, cell, lambda: open_context(config), folder)


def _end_with_parent() -> None:
    """End this process when its parent was killed: the next sweep runs the same cell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _run_cell(config: StudyConfig, cell: Cell, opened: Callable[[], Context], folder: Path) -> None:
    """Measure a cell in the context that `opened` returns, and write its rows, or its error."""
    failure = _file(folder, cell, "error")
    failure.unlink(missing_ok=True)  # of an earlier attempt
    try:
        context = opened()
        seeded = dataclasses.replace(context.config, seed=cell.seed)
        start = time.perf_counter()
        measured = load_study(config.study).measure(
            cell, dataclasses.replace(context, config=seeded)
        )
    except Exception as error:  # after any error, the other cells continue
        line = " ".join(f"{type(error).__name__}: {error}".split())
        write_text(failure, f"{line}\n\n{traceback.format_exc()}")
        return
    contents = {
        "seconds": time.perf_counter() - start,
        "rows": [{**cell.variant, "seed": cell.seed, **row} for row in measured],
    }
    write_text(_file(folder, cell, "json"), json.dumps(contents) + "\n")
