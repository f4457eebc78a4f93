"""Loggers that write files: no epoch is lost, and none is doubled when it is repeated."""

import csv
import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from simclr_ext.options.errors import StorageError
from simclr_ext.trainer.config import ModelConfig, TrainConfig
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.training.loggers.tensorboard import TensorBoard
from simclr_ext.trainer.training.loggers.values import epoch_values, score_values
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Training
from tests.trainer.training.test_health import HEALTHY

Run = Callable[..., TrainResult]


def test_epochs_are_where_the_option_says(run: Run) -> None:
    folder = run("jsonl").folder
    names = {path.name for path in folder.iterdir()}
    assert "metrics.jsonl" in names
    assert not [name for name in names if name == "metrics.csv" or "tfevents" in name]


def test_repeated_epochs_are_not_doubled(run_twice: Run) -> None:
    result = run_twice("csv", "jsonl", "tensorboard")
    with (result.folder / "metrics.csv").open(newline="") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [
            epoch.loss for epoch in result.epochs
        ]
    lines = (result.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [dataclasses.asdict(e) for e in result.epochs]
    board = EventAccumulator(str(result.folder)).Reload()
    events = board.Scalars("train/loss")
    assert [event.step for event in events] == [2, 4, 6]
    assert [e.value for e in events] == pytest.approx([epoch.loss for epoch in result.epochs])


def test_the_last_line_has_the_test_accuracies(run: Run) -> None:
    result = run("jsonl", evaluate=True)
    *epochs, last = (result.folder / "metrics.jsonl").read_text().splitlines()
    assert len(epochs) == 3
    assert json.loads(last) == {"step": 6, **score_values(result.scores)}
    expected = result.scores["trained encoder"].linear_few.mean
    assert json.loads(last)["test/linear_few/trained_encoder"] == expected


def test_what_was_not_measured_has_no_value() -> None:
    assert "train/knn_accuracy" not in epoch_values(HEALTHY)
    measured = epoch_values(dataclasses.replace(HEALTHY, knn_accuracy=0.5))
    assert measured["train/knn_accuracy"] == 0.5
    assert set(measured) - set(epoch_values(HEALTHY)) == {"train/knn_accuracy"}


def test_events_without_space_are_an_error_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which ends the run with the command that resumes it, like a checkpoint without space."""
    model = ModelConfig(width=4, blocks=(1,), projection_dim=8)
    config = TrainConfig(model=model).resolve(1, 8, 8)
    training, board = Training.start(build_model(config), config), TensorBoard()
    board.on_start(training, config, tmp_path)
    training.epochs.append(HEALTHY)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for method in ("add_scalar", "close"):
        monkeypatch.setattr(SummaryWriter, method, full)
    for act in (lambda: board.on_epoch(training), board.on_end):
        with pytest.raises(StorageError, match="events cannot be written: No space left on device"):
            act()
