"""Runs with loggers: a whole one, and one that repeats its last epochs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simclr_ext.trainer import Callback, ModelConfig, MonitorConfig, TrainConfig, resume, train
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Training

STEPS = 2  # of an epoch of 1,437 images


class KeepCheckpoint(Callback):
    """Keeps the checkpoint of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_checkpoint(self, training: Training, path: Path) -> None:
        if training.step == self.step and path.name == "checkpoint.pt":
            shutil.copy(path, path.with_name("kept.pt"))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., TrainResult]:
    """Train three epochs of two steps with loggers."""

    def run(*loggers: str, callbacks: tuple[Callback, ...] = (), **options: Any) -> TrainResult:
        config = TrainConfig(
            epochs=3,
            batch_size=512,
            image_size=8,
            threads=1,
            out=str(tmp_path / "run"),
            model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
            monitor=MonitorConfig(knn_every=0, loggers=loggers),
            **{"evaluate": False, **options},
        )
        return train(config, callbacks=callbacks)

    return run


@pytest.fixture
def run_twice(run: Callable[..., TrainResult]) -> Callable[..., TrainResult]:
    """Train as `run`, and again from epoch 1, as after a crash before the next checkpoint."""

    def run_twice(*loggers: str, **options: Any) -> TrainResult:
        folder = run(*loggers, callbacks=(KeepCheckpoint(STEPS),), **options).folder
        (folder / "kept.pt").replace(folder / "checkpoint.pt")
        return resume(folder)

    return run_twice
