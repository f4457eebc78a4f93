"""Progress of a training, on a terminal or in a log."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.layout import memory_format
from simclr_ext.trainer.progress import duration, on_terminal, say
from simclr_ext.trainer.training.state import Training

_SECONDS = 30  # between lines within an epoch
_CONTIGUOUS = (
    "layout: contiguous instead of channels_last, with which oneDNN overwrites memory for "
    "convolutions as narrow as this model's (docs/onednn.md)"
)
_NO_COLORS = (
    "augmentation: the images have {} channels, so that saturation, hue and grayscale do not apply"
)


def headline(config: ResolvedConfig, steps: int, done: int) -> str:
    """Return the first line of a training.

    Args:
        config: The run.
        steps: Steps of an epoch.
        done: Steps that are already done.
    """
    epochs, warmup = config.epochs, config.warmup_epochs
    share = ", a tenth of the run" if 0 < warmup < 10 and warmup == epochs / 10 else ""
    resumed = f", resumed after step {done}" if done else ""
    return (
        f"training: {epochs} {_plural('epoch', epochs)} of {steps} {_plural('step', steps)}, "
        f"{config.batch_size} images of {config.side} x {config.side} each; warmup of {warmup:g} "
        f"{_plural('epoch', warmup)}{share}{resumed}"
    )


def _network(config: ResolvedConfig, training: Training) -> str:
    """Return what is trained, and where."""
    weights = sum(parameter.numel() for parameter in training.model.parameters())
    line = (
        f"network: {config.model.encoder} encoder and head, {weights:,} weights, on {config.device}"
    )
    if config.device == "cpu" and torch.cuda.is_available():
        line += "; here is a GPU: --device cuda trains on it"
    return line


def training_progress(config: ResolvedConfig, steps: int, training: Training) -> Bar | Log:
    """Write the first lines of a training, and return what shows its steps: a bar, or lines.

    Args:
        config: The run.
        steps: Steps of an epoch.
        training: The state from which it starts or is resumed.
    """
    say(headline(config, steps, training.step))
    say(_network(config, training))
    if config.channels not in (1, 3):
        say(_NO_COLORS.format(config.channels))
    layout = memory_format(training.model, config.channels_last)
    if config.channels_last and layout == torch.contiguous_format:
        say(_CONTIGUOUS)
    kind = Bar if on_terminal() else Log
    return kind(config, steps, training.step)


class Bar:
    """A bar of images, images per second and time left, with loss, accuracy, T and rate."""

    def __init__(self, config: ResolvedConfig, steps: int, done: int) -> None:
        self._config = config
        self._bar = tqdm(
            desc="training",
            unit=" images",
            unit_scale=True,
            mininterval=0.2,
            total=config.epochs * steps * config.batch_size,
            initial=done * config.batch_size,
        )

    def advance(self, training: Training) -> None:
        """Show one more step."""
        config, epochs = self._config, training.epochs
        values = {
            "epoch": f"{len(epochs)}/{config.epochs}",
            **{name: f"{value:.3f}" for name, value in training.latest.items()},
            "T": f"{config.temperature:g}",
            "lr": f"{training.optimizer.param_groups[0]['lr']:.3g}",
        }
        for name in ("knn", "linear"):
            found = [getattr(epoch, f"{name}_accuracy") for epoch in epochs]
            if measured := [accuracy for accuracy in found if accuracy is not None]:
                values[name] = f"{measured[-1]:.3f}"
        self._bar.set_postfix(values, refresh=False)
        self._bar.update(config.batch_size)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


class Log:
    """A line for each epoch, and every half minute within one.

    Args:
        config: The run.
        steps: Steps of an epoch.
        done: Steps that were done before.
        clock: Function that returns the time in seconds, from any origin.
    """

    def __init__(
        self,
        config: ResolvedConfig,
        steps: int,
        done: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._steps, self._before, self._clock = config, steps, done, clock
        self._start = self._last = clock()

    def advance(self, training: Training) -> None:
        """Write a line if an epoch has ended, or half a minute has passed without one."""
        now = self._clock()
        step_of_epoch = training.step % self._steps
        if step_of_epoch > 0 and now - self._last < _SECONDS:
            return
        self._last = now
        total = self._config.epochs * self._steps
        seconds = (now - self._start) / (training.step - self._before)
        what = self._within(training, step_of_epoch) if step_of_epoch else self._epoch(training)
        say(f"{what}, {duration(seconds * (total - training.step))} left")

    def _epoch(self, training: Training) -> str:
        epoch = training.epochs[-1]
        values = {
            "loss": epoch.loss,
            "accuracy": epoch.contrastive_accuracy,
            "k-NN accuracy": epoch.knn_accuracy,
            "linear accuracy": epoch.linear_accuracy,
        }
        measured = [f"{name} {value:.3f}" for name, value in values.items() if value is not None]
        speed = f"{epoch.images_per_second:,.0f} images/s"
        return f"epoch {epoch.epoch}/{self._config.epochs}: {', '.join([*measured, speed])}"

    def _within(self, training: Training, step: int) -> str:
        values = [f"{name} {value:.3f}" for name, value in training.latest.items()]
        images = step * self._config.batch_size / training.epoch_seconds
        place = f"epoch {len(training.epochs) + 1}/{self._config.epochs}, step {step}/{self._steps}"
        return f"{place}: {', '.join([*values, f'{images:,.0f} images/s'])}"

    def close(self) -> None:
        """Do nothing: every line is complete."""


def _plural(noun: str, count: float) -> str:
    return noun if count == 1 else f"{noun}s"
