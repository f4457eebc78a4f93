"""Progress of a training: a line per epoch and per half minute, or a bar."""

import dataclasses
import sys
from typing import Any

import pytest
import torch

from simclr_ext.trainer.config import ModelConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.training.progress import Bar, Log, headline, training_progress
from simclr_ext.trainer.training.state import Training
from tests.trainer.test_progress import Terminal
from tests.trainer.training.test_health import HEALTHY

STEPS = 4


def resolved(width: int = 4, **options: Any) -> ResolvedConfig:
    model = ModelConfig(width=width, blocks=(1, 1), projection_dim=8)
    return TrainConfig(batch_size=10, model=model, **options).resolve(1, 8, 8)


CONFIG = resolved(epochs=3)
WIDE = resolved(width=16, epochs=3)  # wide enough for channels last


def start(config: ResolvedConfig = CONFIG) -> Training:
    return Training.start(build_model(config), config)


def take_step(training: Training, **accuracies: float) -> None:
    """Count a step, as the loop does, and measure accuracies at the end of an epoch."""
    training.step += 1
    training.epoch_seconds += 2.0
    training.latest = {"loss": 3.25, "accuracy": 0.5}
    if training.step % STEPS == 0:
        epoch = dataclasses.replace(
            HEALTHY, epoch=training.step // STEPS, step=training.step, **accuracies
        )
        training.epochs.append(epoch)
        training.epoch_seconds = 0.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"epochs": 5}, "5 epochs of 4 steps, {images}; warmup of 0.5 epochs, a tenth of the run"),
        ({"epochs": 10}, "10 epochs of 4 steps, {images}; warmup of 1 epoch, a tenth of the run"),
        ({"epochs": 200}, "200 epochs of 4 steps, {images}; warmup of 10 epochs"),
    ],
)
def test_the_headline_says_how_long_the_warmup_is(options: dict[str, int], expected: str) -> None:
    line = headline(resolved(**options), STEPS, done=0)
    assert line == "training: " + expected.format(images="10 images of 16 x 16 each")


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_operations_that_do_not_apply_are_named(
    channels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(WIDE, channels=channels)
    training_progress(config, STEPS, start(config)).close()
    said = (
        "augmentation: the images have 5 channels, so that saturation, hue and grayscale do not "
        "apply\n"
    )
    assert (said in capsys.readouterr().err) == (channels == 5)


def test_a_line_per_epoch_and_per_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    log, training = Log(CONFIG, STEPS, 0, lambda: now), start()
    for seconds in (16, 16, 16, 1, 29, 2, 1, 1, 0, 0, 0, 1):
        now += seconds
        measured = {7: {"linear_accuracy": 0.5}, 11: {"knn_accuracy": 0.75, "linear_accuracy": 0.8}}
        take_step(training, **measured.get(training.step, {}))
        log.advance(training)
    log.close()
    text = capsys.readouterr().err
    assert "\r" not in text
    assert text.splitlines() == [
        "epoch 1/3, step 2/4: loss 3.250, accuracy 0.500, 5 images/s, 02:40 left",
        "epoch 1/3: loss 3.000, accuracy 0.600, 100 images/s, 01:38 left",
        "epoch 2/3, step 2/4: loss 3.250, accuracy 0.500, 5 images/s, 01:20 left",
        "epoch 2/3: loss 3.000, accuracy 0.600, linear accuracy 0.500, 100 images/s, 00:41 left",
        "epoch 3/3: loss 3.000, accuracy 0.600, k-NN accuracy 0.750, linear accuracy 0.800, "
        "100 images/s, 00:00 left",
    ]


def test_a_resumed_run_counts_its_own_steps_for_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now, training = 0.0, start()
    for _ in range(7):
        take_step(training)
    log = Log(CONFIG, STEPS, training.step, lambda: now)
    now = 10.0
    take_step(training)
    log.advance(training)
    assert headline(CONFIG, STEPS, done=7).endswith(", resumed after step 7")
    assert capsys.readouterr().err.endswith("100 images/s, 00:40 left\n")


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(training_progress(WIDE, STEPS, start(WIDE)), Log)
    training = start(WIDE)
    weights = sum(parameter.numel() for parameter in training.model.parameters())
    network = f"network: {WIDE.model.encoder} encoder and head, {weights:,} weights, on cpu"
    assert capsys.readouterr().err == f"{headline(WIDE, STEPS, 0)}\n{network}\n"


def test_a_gpu_that_is_not_used_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    training_progress(WIDE, STEPS, start(WIDE)).close()
    assert "on cpu; here is a GPU: --device cuda trains on it\n" in capsys.readouterr().err


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_layout_that_was_not_requested_is_reported(
    channels_last: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(CONFIG, channels_last=channels_last)
    training_progress(config, STEPS, start(config))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == headline(config, STEPS, 0)
    assert [line.startswith("layout: contiguous instead ") for line in lines[2:]] == [
        True
    ] * channels_last


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    training = start(WIDE)
    bar = training_progress(WIDE, STEPS, training)
    assert isinstance(bar, Bar)
    for _ in range(STEPS):
        take_step(training, knn_accuracy=0.75, linear_accuracy=0.8)
        bar.advance(training)
    bar.close()
    last = terminal.getvalue().split("\r")[-1]
    for part in (
        "training:  33%",
        "40.0/120",
        "epoch=1/3",
        "loss=3.250",
        "knn=0.750",
        "linear=0.800",
    ):
        assert part in last
