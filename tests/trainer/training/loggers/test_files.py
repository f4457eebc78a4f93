"""Loggers that write files: no epoch is lost, and none is doubled when it is repeated."""

import csv
import dataclasses
import json
from collections.abc import Callable

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from simclr_ext.trainer.training.loggers.values import epoch_values, score_values
from simclr_ext.trainer.training.result import TrainResult
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
