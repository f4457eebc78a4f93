"""The learning rate of a resumed run whose number of epochs has changed."""

from __future__ import annotations

import math
import warnings

from simclr_ext.options.checks import check
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.training.health import TrainingWarning
from simclr_ext.trainer.training.optim import Rewarm, learning_rate
from simclr_ext.trainer.training.state import Training


def reschedule(
    training: Training,
    before: ResolvedConfig,
    config: ResolvedConfig,
    epoch_steps: int,
    epochs: float | None,
) -> Rewarm | None:
    """Return the second warmup of a resumed run; warn if it has none and its rate jumps.

    Args:
        training: The state from which the run is resumed.
        before: The run as it was.
        config: The run as it is now.
        epoch_steps: Steps of an epoch.
        epochs: Epochs of a second warmup that begins now; one of this length that the run already
            has goes on, so that the same command may be repeated. None: none begins now.

    Raises:
        ConfigError: The second warmup has no step, or does not fit into the epochs that are left.
    """
    step, extended = training.step, config.epochs != before.epochs
    rate = training.optimizer.param_groups[0]["lr"] if step > 0 else 0.0
    if epochs is not None:
        ok = isinstance(epochs, int | float) and math.isfinite(epochs)
        steps = round(epochs * epoch_steps) if ok else 0
        if training.rewarm is not None and training.rewarm.steps == steps and not extended:
            return training.rewarm
        left = config.epochs - step / epoch_steps
        allowed = f"at least a step, and at most {left:g}, the epochs that are left"
        check(1 <= steps <= left * epoch_steps, "rewarm", epochs, allowed)
        return Rewarm(step, steps, rate)
    if not extended:
        return training.rewarm
    if step < config.epochs * epoch_steps:
        _warn_of_a_jump(training, before, config, epoch_steps, rate)
    return None


def _warn_of_a_jump(
    training: Training,
    before: ResolvedConfig,
    config: ResolvedConfig,
    epoch_steps: int,
    rate: float,
) -> None:
    """Warn unless the next step has the rate that it would have had."""
    step, expected = training.step, rate
    if step < before.epochs * epoch_steps:
        expected = learning_rate(step, before, epoch_steps, training.rewarm)
    new = learning_rate(step, config, epoch_steps)
    if new != expected:
        text = (
            f"with {config.epochs} epochs the learning rate jumps from {rate:.3g} to {new:.3g} "
            f"after step {step}; --rewarm 1 instead takes one epoch to get there"
        )
        warnings.warn(text, TrainingWarning, stacklevel=2)
