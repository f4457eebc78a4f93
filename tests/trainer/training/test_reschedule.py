"""Another number of epochs: the rate moves to its new curve on a line, or jumps with a warning."""

import dataclasses
import warnings
from typing import Any

import pytest

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import ModelConfig, OptimConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.training.health import TrainingWarning
from simclr_ext.trainer.training.optim import Rewarm, learning_rate
from simclr_ext.trainer.training.reschedule import reschedule
from simclr_ext.trainer.training.state import Training

STEPS = 4  # of an epoch
SHORT = TrainConfig(
    epochs=10,
    model=ModelConfig(width=4, blocks=(1,), projection_dim=8),
    optim=OptimConfig(learning_rate=0.5, scaling="none", warmup_epochs=2),
).resolve(1, 8, 8)
LONG = dataclasses.replace(SHORT, epochs=20)


def at(step: int, rewarm: Rewarm | None = None) -> Training:
    """The state of the short run after some steps."""
    training = Training.start(build_model(SHORT), SHORT)
    training.step, training.rewarm = step, rewarm
    if step > 0:
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(step - 1, SHORT, STEPS, rewarm)
    return training


def test_a_complete_run_is_warmed_again() -> None:
    last = learning_rate(39, SHORT, STEPS)
    found = reschedule(at(40), SHORT, LONG, STEPS, 2.5)
    assert found == Rewarm(40, 10, last)
    rates = [learning_rate(step, LONG, STEPS, found) for step in range(40, 80)]
    assert rates[0] == pytest.approx(last + (learning_rate(49, LONG, STEPS) - last) / 10)
    assert rates[9:] == [learning_rate(step, LONG, STEPS) for step in range(49, 80)]


def test_a_jump_is_a_warning_with_both_rates() -> None:
    with pytest.warns(TrainingWarning) as caught:
        assert reschedule(at(40), SHORT, LONG, STEPS, None) is None
    old, new = learning_rate(39, SHORT, STEPS), learning_rate(40, LONG, STEPS)
    assert str(caught[0].message) == (
        f"with 20 epochs the learning rate jumps from {old:.3g} to {new:.3g} after step 40; "
        "--rewarm 1 instead takes one epoch to get there"
    )
    with pytest.warns(TrainingWarning, match="with 8 epochs the learning rate jumps from"):
        reschedule(at(20), SHORT, dataclasses.replace(SHORT, epochs=8), STEPS, None)


@pytest.mark.parametrize(
    ("step", "config"),
    [(0, LONG), (5, LONG), (8, LONG), (32, dataclasses.replace(SHORT, epochs=8)), (20, SHORT)],
    ids=["not begun", "in the warmup", "at the peak", "ended", "unchanged"],
)
def test_nothing_jumps(step: int, config: ResolvedConfig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reschedule(at(step), SHORT, config, STEPS, None) is None


def test_one_that_has_begun_goes_on() -> None:
    begun = Rewarm(40, 10, 0.01)
    for epochs in (None, 2.5):  # resumed alone, or by the same command
        assert reschedule(at(44, begun), LONG, LONG, STEPS, epochs) == begun
    assert reschedule(at(80, begun), LONG, LONG, STEPS, 2.5) == begun  # also when it is complete


def test_another_one_takes_its_place() -> None:
    training = at(44, Rewarm(40, 10, 0.01))
    rate = training.optimizer.param_groups[0]["lr"]
    assert reschedule(training, LONG, LONG, STEPS, 1) == Rewarm(44, 4, rate)
    longer = dataclasses.replace(LONG, epochs=30)
    assert reschedule(training, LONG, longer, STEPS, 2.5) == Rewarm(44, 10, rate)


@pytest.mark.parametrize("epochs", [0, -1, 0.1, 10.5, float("nan"), float("inf"), "1"])
def test_what_does_not_fit_is_refused(epochs: Any) -> None:
    with pytest.raises(ConfigError, match="rewarm must be at least a step, and at most 10, the"):
        reschedule(at(40), SHORT, LONG, STEPS, epochs)
