"""The recorder's output over a run of three epochs of two steps."""

import dataclasses
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_ext.options.errors import DivergedError, TrainingInterrupted
from simclr_ext.trainer.config import ModelConfig, MonitorConfig, OptimConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, Part
from simclr_ext.trainer.model.checkpoint import load_checkpoint
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.training.loggers.csv import Csv
from simclr_ext.trainer.training.loggers.tensorboard import TensorBoard
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.process import StopRequest
from simclr_ext.trainer.training.recorder import Recorder
from simclr_ext.trainer.training.run_folder import RunFolder
from simclr_ext.trainer.training.state import Training
from simclr_ext.trainer.views.batches import build_source

CONFIG = TrainConfig(
    epochs=3,
    batch_size=8,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
    optim=OptimConfig(warmup_epochs=1),
).resolve(1, 8, 8)


class Written(RunFolder):
    """A run folder that records the step after which each checkpoint was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.saved: list[int] = []
        self.kept: list[tuple[str, int]] = []

    def save(self, training: Training, *_: object) -> None:
        self.saved.append(training.step)

    def keep(self, name: str, training: Training, *_: object) -> None:
        self.kept.append((name, training.step))


def record(folder: RunFolder, stop: StopRequest | None = None, **monitor: Any) -> Training:
    config = dataclasses.replace(CONFIG, monitor=MonitorConfig(**{"knn_every": 0, **monitor}))
    images = torch.randint(256, (17, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(17) % 2
    part = Part.of(images, labels)
    data = Dataset("tiny", part, part, ("even", "odd"))
    source, training = build_source(data, config), Training.start(build_model(config), config)
    with closing(Recorder(folder, config, data, source, [Csv(), TensorBoard()])) as recorder:
        recorder.start(training)
        for _ in pretrain(training, source, config):
            recorder.after_step(training, stop or StopRequest())
    return training


@pytest.mark.parametrize(
    ("monitor", "saved"),
    [
        ({}, [2, 4, 6]),
        ({"checkpoint_epochs": 2}, [4, 6]),
        ({"checkpoint_epochs": 9}, [6]),
        ({"checkpoint_epochs": 9, "checkpoint_steps": 3}, [3, 6]),
    ],
    ids=["every epoch", "every other", "the last alone", "steps too"],
)
def test_checkpoints_to_resume_from(
    tmp_path: Path, monitor: dict[str, int], saved: list[int]
) -> None:
    folder = Written(tmp_path)
    record(folder, **monitor)
    assert (folder.saved, folder.kept) == (saved, [])


def test_checkpoints_that_are_kept(tmp_path: Path) -> None:
    folder = Written(tmp_path)
    training = record(folder, knn_every=2, keep_epochs=2)
    assert ("epoch-0002.pt", 4) in folder.kept
    assert ("best.pt", 4) in folder.kept  # the first that is measured
    assert [epoch.knn_accuracy is not None for epoch in training.epochs] == [False, True, True]


def test_measuring_does_not_change_the_training(tmp_path: Path) -> None:
    runs = []
    for every in (0, 1):
        torch.manual_seed(0)  # of the images
        runs.append(record(Written(tmp_path), knn_every=every, linear_every=every))
    plain, measured = runs
    assert all(epoch.linear_accuracy is not None for epoch in measured.epochs)
    expected = plain.model.state_dict()
    assert all(value.equal(expected[name]) for name, value in measured.model.state_dict().items())
    assert [epoch.loss for epoch in measured.epochs] == [epoch.loss for epoch in plain.epochs]


def test_a_signal_ends_the_run_after_the_step_that_it_came_in(tmp_path: Path) -> None:
    folder = Written(tmp_path)
    with pytest.raises(TrainingInterrupted, match="saved after step 1; to resume: simclr-ext") as e:
        record(folder, StopRequest(signal.SIGTERM))
    assert (e.value.signal, folder.saved) == (signal.SIGTERM, [1])


def test_measurements_are_in_the_folder_after_every_epoch(tmp_path: Path) -> None:
    record(RunFolder(tmp_path))
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["1", "2"], ["2", "4"], ["3", "6"]]
    assert (tmp_path / "pairs.png").stat().st_size > 1000
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize("part", ["weight", "average", "optimizer"])
def test_a_state_that_is_not_finite_never_overwrites_a_checkpoint(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step = Recorder.after_step

    def broken(self: Recorder, training: Training, stop: StopRequest) -> None:
        if training.step == 3:
            weight = next(training.model.parameters())
            tensor = {
                "weight": weight.data,
                "average": next(training.model.buffers()),
                "optimizer": training.optimizer.state[weight]["momentum_buffer"],
            }[part]
            tensor.view(-1)[0] = torch.inf if part == "average" else torch.nan
        after_step(self, training, stop)

    monkeypatch.setattr(Recorder, "after_step", broken)
    with pytest.raises(DivergedError, match=r"after step 3, .* not finite .* checkpoint is kept"):
        record(RunFolder(tmp_path), checkpoint_steps=1)
    state = load_checkpoint(tmp_path / "checkpoint.pt").training
    assert state is not None
    assert state["step"] == 2
