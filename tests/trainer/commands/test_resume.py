"""Runs that are interrupted, by SIGKILL or by a signal that is caught, resume bit-identically."""

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from simclr_ext import cli
from simclr_ext.options.errors import (
    CheckpointError,
    ConfigError,
    RunFolderError,
    TrainingInterrupted,
)
from simclr_ext.trainer import (
    Callback,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
    resume,
    train,
)
from simclr_ext.trainer.commands import train as train_command
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.lock import locked
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.training.health import TrainingWarning
from simclr_ext.trainer.training.optim import peak_learning_rate, schedule
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Training

STEPS = 1437 // 359  # of an epoch: 4
CONFIG = TrainConfig(
    image_size=8,
    epochs=3,
    batch_size=359,
    threads=1,
    evaluate=False,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
    optim=OptimConfig(warmup_epochs=1),
    monitor=MonitorConfig(knn_every=2, checkpoint_steps=3, metrics_every=3, keep_epochs=2),
)
# Trains a configuration, and is killed at the given place, without a chance to clean up.
PROGRAM = """
import os, signal, sys
import torch, yaml
from simclr_ext.trainer import TrainConfig, train
from simclr_ext.trainer.commands import train as command
from simclr_ext.trainer.training.loggers.csv import Csv

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

config = TrainConfig.from_dict(yaml.safe_load(sys.argv[1]))
place, step = sys.argv[2], int(sys.argv[3])
pretrain = command.pretrain

def steps(training, *rest, **options):
    for state in pretrain(training, *rest, **options):
        if state.step == step:
            if place == "step":
                die()
            if place == "log":  # the epoch's measurements are taken, and nothing of them is written
                Csv.on_epoch = die
            if place == "write":  # in the middle of a checkpoint
                torch.save = lambda contents, file: (file.write(b"half"), file.flush(), die())
        yield state

command.pretrain = steps
train(config)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return train(dataclasses.replace(CONFIG, out=str(out))).folder


def timeless(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the times."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def momenta(folder: Path) -> dict[int, Tensor]:
    training = load_checkpoint(folder / "checkpoint.pt").training
    assert training is not None
    state = training["optimizer"]["state"]
    return {index: values["momentum_buffer"] for index, values in state.items()}


def assert_same(folder: Path, whole: Path) -> None:
    """Weights, optimizer, kept checkpoints and logs are bit-identical."""
    for name in ("checkpoint.pt", "best.pt", "epoch-0002.pt"):
        ours, theirs = load_checkpoint(folder / name), load_checkpoint(whole / name)
        assert (ours.config, ours.epoch) == (theirs.config, theirs.epoch)
        expected = theirs.model.state_dict()
        for key, value in ours.model.state_dict().items():
            assert torch.equal(value, expected[key]), (name, key)
    ours, theirs = momenta(folder), momenta(whole)
    assert all(torch.equal(ours[index], theirs[index]) for index in theirs)
    assert timeless(folder) == timeless(whole)
    board = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [4, 8, 12]
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize(
    ("place", "step"),
    [("step", 1), ("step", 7), ("log", 8), ("write", 9)],
    ids=["before any checkpoint", "within an epoch", "before an epoch is logged", "while saving"],
)
def test_a_killed_run_resumes_bit_by_bit(
    place: str, step: int, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    config = yaml.safe_dump(dataclasses.replace(CONFIG, out=str(folder)).to_dict())
    command = [sys.executable, "-c", PROGRAM, config, place, str(step)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    result = resume(folder)
    assert [epoch.step for epoch in result.epochs] == [4, 8, 12]
    assert_same(folder, whole)


# Trains by the command line; after step 5, files are limited to less than a checkpoint's size.
FULL_DISK = """
import resource, sys
from simclr_ext import cli
from simclr_ext.trainer.commands import train as command

pretrain = command.pretrain

def steps(training, *rest, **options):
    for state in pretrain(training, *rest, **options):
        if state.step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        yield state

command.pretrain = steps
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_run_that_filled_the_disk_is_resumed_when_there_is_space(
    whole: Path, tmp_path: Path
) -> None:
    folder, config = tmp_path / "run", tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(dataclasses.replace(CONFIG, out=str(folder)).to_dict()))
    command = [sys.executable, "-c", FULL_DISK, "train", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert f"{folder}/checkpoint.pt: cannot be written: File too large; then resume" in last
    assert last.endswith(f"then resume: simclr-ext train --resume {folder}")
    assert not list(folder.glob("*.partial"))
    resume(folder)
    assert_same(folder, whole)


def interrupt_after(step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain = train_command.pretrain

    def steps(*arguments: Any, **options: Any) -> Iterator[Training]:
        for state in pretrain(*arguments, **options):
            if state.step == step:
                os.kill(os.getpid(), number)
            yield state

    monkeypatch.setattr(train_command, "pretrain", steps)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_first(
    number: signal.Signals, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.default_int_handler  # any handler will do; under nohup, SIGHUP is ignored
    before = signal.signal(number, handler)
    with monkeypatch.context() as patch:
        interrupt_after(5, number, patch)
        with pytest.raises(TrainingInterrupted, match="saved after step 5; to resume: simclr-ext"):
            train(dataclasses.replace(CONFIG, out=str(tmp_path / "run")))
    assert signal.signal(number, before) is handler
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt").training
    assert state is not None
    assert state["step"] == 5
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", whole)


class _SignalsAtStart(Callback):
    def on_start(self, training: Training, config: object, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_before_the_first_step_saves_too(whole: Path, tmp_path: Path) -> None:
    """The first pictures take a while, and another process of the job may be further on."""
    with pytest.raises(TrainingInterrupted, match="saved after step 1; to resume: simclr-ext"):
        train(dataclasses.replace(CONFIG, out=str(tmp_path / "run")), callbacks=[_SignalsAtStart()])
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", whole)


def test_the_command_line_resumes_and_takes_nothing_else(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(dataclasses.replace(CONFIG, out=str(folder)).to_dict()))
    with monkeypatch.context() as patch:
        interrupt_after(6, signal.SIGTERM, patch)
        assert cli.main(["train", "--config", str(config)]) == 128 + signal.SIGTERM
    assert f"to resume: simclr-ext train --resume {folder}\n" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(folder), "--batch_size", "9"]) == 2
    assert "--resume keeps the run's own configuration" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(folder)]) == 0
    assert capsys.readouterr().out == f"run folder: {folder}\n"
    assert_same(folder, whole)


def test_its_own_configuration_repeats_a_run(whole: Path, tmp_path: Path) -> None:
    config = TrainConfig.from_dict(yaml.safe_load((whole / "config.yaml").read_text()))
    again = train(dataclasses.replace(config, out=str(tmp_path / "again")))
    assert_same(again.folder, whole)


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"gone: not a run that can be resumed: checkpoint.pt"
    ):
        resume(tmp_path / "gone")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_a_run_whose_checkpoint_is_gone_does_not_start_again(copy: Path) -> None:
    for path in copy.glob("checkpoint*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is missing"):
        resume(copy)
    assert len(timeless(copy)) == CONFIG.epochs


def test_a_changed_configuration_is_refused_by_field_and_value(copy: Path) -> None:
    file, before = copy / "config.yaml", (copy / "checkpoint.pt").read_bytes()
    text = file.read_text()
    file.write_text(text.replace("width: 4", "width: 16").replace("size: 359", "size: 300"))
    with pytest.raises(CheckpointError) as error:
        resume(copy)
    assert "batch_size (300 there, 359 in checkpoint.pt), model.width (16 there, 4" in str(
        error.value
    )
    assert (copy / "checkpoint.pt").read_bytes() == before
    file.write_text(text.replace("epochs: 3", "epochs: 5"))
    with pytest.raises(CheckpointError, match=r"epochs .5 there, 3 .* options of --resume"):
        resume(copy)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            lambda text: text.partition("model:")[0],
            r"model.encoder \(missing there, 'small' in check",
        ),
        (lambda text: text + "color: red\n", r"color \('red' there, missing in checkpoint.pt\)"),
        (lambda text: "", "not a configuration; delete config.yaml"),
        (lambda text: "a: [", "not readable .*; delete config.yaml"),
    ],
    ids=["half", "unknown field", "empty", "not YAML"],
)
def test_a_damaged_configuration_is_refused(
    copy: Path, contents: Callable[[str], str], message: str
) -> None:
    file = copy / "config.yaml"
    text = file.read_text()
    file.write_text(contents(text))
    with pytest.raises(CheckpointError, match=message):
        resume(copy)
    file.unlink()
    resume(copy)
    assert file.read_text() == text


def test_some_options_may_change(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--epochs", "4", "--workers=0", "--threads", "2", "--device", "cpu"]
    assert cli.main(["train", f"--resume={copy}", *options]) == 0
    root = str(Path("data").absolute())
    changed = dataclasses.replace(CONFIG, epochs=4, workers=0, threads=2, data_root=root)
    written = TrainConfig.from_dict(yaml.safe_load((copy / "config.yaml").read_text()))
    checkpoint = load_checkpoint(copy / "checkpoint.pt")
    assert written == checkpoint.config.options == changed.resolve(1, 8, 8).options
    assert [row["epoch"] for row in timeless(copy)] == ["1", "2", "3", "4"]
    with pytest.raises(
        ConfigError, match="epochs must be at least 4, the epoch that the run has reached"
    ):
        resume(copy, epochs=3)
    assert cli.main(["train", "--resume", str(copy), "--epochs", "0"]) == 2
    assert "epochs must be at least 1, got 0" in capsys.readouterr().err


def test_null_threads_are_pytorchs_own_choice(copy: Path) -> None:
    assert torch.get_num_threads() == 1
    for arguments, threads in (["--threads", "2"], 2), ([], 2), (["--threads", "null"], 1):
        assert cli.main(["train", "--resume", str(copy), *arguments]) == 0
        assert load_checkpoint(copy / "checkpoint.pt").config.threads == threads


def test_the_warmup_is_that_with_which_the_run_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default a tenth of the first number of epochs: there is no second warmup."""
    config = dataclasses.replace(CONFIG, epochs=20, optim=OptimConfig(), out=str(tmp_path / "run"))
    with monkeypatch.context() as patch:
        interrupt_after(5, signal.SIGTERM, patch)  # within the warmup of 2 epochs
        with pytest.raises(TrainingInterrupted):
            train(config)
    within = Path(shutil.copytree(tmp_path / "run", tmp_path / "within"))
    assert resume(tmp_path / "run", epochs=3).config.warmup_epochs == 2
    longer = resume(tmp_path / "run", epochs=4)
    peak = peak_learning_rate(longer.config.optim, longer.config.batch_size)
    shares = [schedule(step, 4 * STEPS, 2 * STEPS) for step in (1 * STEPS - 1, 2 * STEPS - 1)]
    rates = [epoch.learning_rate / peak for epoch in longer.epochs]
    assert rates[:2] == pytest.approx(shares) == [0.5, 1]
    assert rates[2] == pytest.approx(schedule(3 * STEPS - 1, 3 * STEPS, 2 * STEPS))
    assert rates[3] == pytest.approx(schedule(4 * STEPS - 1, 4 * STEPS, 2 * STEPS))
    before = (within / "checkpoint.pt").read_bytes()
    with pytest.raises(ConfigError, match=r"epochs must be above 2, the warmup epochs .* got 2"):
        resume(within, epochs=2)
    assert (within / "checkpoint.pt").read_bytes() == before


def test_an_extended_run_is_warmed_again_and_resumes_bit_by_bit(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted within its second warmup, it is resumed alone or by the same command."""
    parts = [Path(shutil.copytree(copy, copy.with_name(f"part-{n}"))) for n in range(2)]
    extended = resume(copy, epochs=6, rewarm=1.5)
    rates = [epoch.learning_rate for epoch in extended.epochs]
    peak = peak_learning_rate(CONFIG.optim, CONFIG.batch_size)
    last, met = (peak * schedule(step, n * STEPS, STEPS) for step, n in ((11, 3), (17, 6)))
    assert rates[3:] == pytest.approx(
        [last + 4 / 6 * (met - last)]  # the line takes steps 12 to 17
        + [peak * schedule(step, 6 * STEPS, STEPS) for step in (19, 23)]
    )
    for part, again in zip(parts, ({}, {"epochs": 6, "rewarm": 1.5}), strict=True):
        with monkeypatch.context() as patch:
            interrupt_after(14, signal.SIGTERM, patch)
            with pytest.raises(TrainingInterrupted):
                resume(part, epochs=6, rewarm=1.5)
        resumed = resume(part, **again)
        expected = extended.model.state_dict()
        assert all(v.equal(expected[name]) for name, v in resumed.model.state_dict().items())
        assert timeless(part) == timeless(copy)


def test_the_command_line_warns_of_a_jump_and_avoids_it(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--rewarm", "1"]) == 2
    assert "--rewarm is an option of a resumed run" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(copy), "--epochs", "4", "--rewarm", "2"]) == 2
    assert "rewarm must be at least a step, and at most 1, the epochs" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(copy), "--epochs", "4"]) == 0
    assert "warning: with 4 epochs the learning rate jumps from" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(copy), "--epochs", "5", "--rewarm", "0.5"]) == 0
    assert "jumps" not in capsys.readouterr().err


def test_callbacks_of_a_resumed_run(tmp_path: Path) -> None:
    told: list[object] = []

    class Tell(Callback):
        def on_start(self, training: Training, config: ResolvedConfig, folder: Path) -> None:
            told.append((len(training.epochs), config.epochs, (folder / "checkpoint.pt").exists()))

        def on_checkpoint(self, training: Training, path: Path) -> None:
            told.append(path.name)

        def on_result(self, training: Training, result: TrainResult) -> None:
            told.append(result)

        def on_end(self) -> None:
            told.append("end")

    monitor = MonitorConfig(knn_every=0, checkpoint_steps=3)
    run = train(dataclasses.replace(CONFIG, out=str(tmp_path / "run"), monitor=monitor))
    result = resume(run.folder, epochs=4, callbacks=[Tell()])
    # Checkpoints after steps 15 and 16.
    assert told == [(3, 4, True), "checkpoint.pt", "checkpoint.pt", result, "end"]


def test_a_checkpoint_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    run = train(dataclasses.replace(CONFIG, out=str(tmp_path / "run"), epochs=2))
    path = run.folder / "checkpoint.pt"
    state = load_checkpoint(path).training
    assert state is not None
    save_checkpoint(path, run.model, run.config, 2, {**state, "images": 5})
    with pytest.raises(CheckpointError, match="has 5 training images, the data set now has 1437"):
        resume(run.folder)
    for change in ({"step": -1}, {"step": 4}, {"epochs": [{}]}, {"optimizer": {}}, {"totals": "x"}):
        save_checkpoint(path, run.model, run.config, 2, {**state, **change})
        with pytest.raises(
            CheckpointError, match=r"the state in checkpoint.pt does not fit the run"
        ):
            resume(run.folder)
    save_checkpoint(path, run.model, run.config, 2)
    with pytest.raises(CheckpointError, match="has no state to resume from"):
        resume(run.folder)


@pytest.mark.parametrize("damage", ["flipped", "cut", "deleted"])
def test_a_damaged_checkpoint_is_resumed_from_the_one_before_it(
    damage: str, copy: Path, whole: Path
) -> None:
    path = copy / "checkpoint.pt"
    contents = bytearray(path.read_bytes())
    if damage == "deleted":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(contents[: len(contents) // 2])
    else:
        contents[len(contents) // 2] ^= 1
        path.write_bytes(contents)
    with pytest.warns(
        TrainingWarning, match=r"resumed from the checkpoint before it, checkpoint-p"
    ):
        resume(copy)
    assert_same(copy, whole)
    previous = load_checkpoint(copy / "checkpoint-previous.pt").training
    assert previous is not None
    assert previous["step"] == 9  # of 12, saved every 3: not the damaged one
    assert (copy / "checkpoint-damaged.pt").exists() == (damage != "deleted")


def test_a_run_is_resumed_by_one_process_at_a_time(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simclr_ext.trainer.lock._WAIT", 0.0)
    with locked(copy), pytest.raises(RunFolderError, match="another process is at work"):
        resume(copy)
