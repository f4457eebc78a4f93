"""What a program may do while a run trains: see its state, and end it early."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importable without torch
    from simclr_ext.trainer.training.state import Training


class Callback:
    """Is called while a run trains; a subclass overrides what it needs.

    `training.stop = True` ends the training after this step: the state is saved, and the evaluation
    follows as at the end of the run. Whoever changes weights or the optimizer changes the run; an
    error ends it as any other.

    Example:
        >>> class EarlyStop(Callback):
        ...     def on_epoch(self, training):
        ...         losses = [epoch.loss for epoch in training.epochs]
        ...         training.stop = min(losses) not in losses[-5:]
        >>> from simclr_ext.trainer import TrainConfig, train
        >>> train(TrainConfig(), callbacks=[EarlyStop()])  # doctest: +SKIP
    """

    def on_step(self, training: Training) -> None:
        """Act after an optimizer step.

        `training.latest` has the loss and the accuracy of the last measured step (see
        `monitor.metrics_every`); it is empty if none was measured since a run was resumed.
        """

    def on_epoch(self, training: Training) -> None:
        """Act after an epoch; `training.epochs[-1]` is what it measured, k-NN included."""

    def on_checkpoint(self, training: Training, path: Path) -> None:
        """Act after a step that was saved as `path`: checkpoint.pt, best.pt or epoch-NNNN.pt."""
