"""Callbacks: they see the state of a run during training, and may end it early.

What a run writes about itself, such as metrics.csv, is written by callbacks too: see `loggers/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importable without torch
    from simclr_ext.trainer.config import ResolvedConfig
    from simclr_ext.trainer.training.result import TrainResult
    from simclr_ext.trainer.training.state import Training


class Callback:
    """Called during a run; a subclass overrides the methods that it needs.

    `training.stop = True` ends the training after this step: the state is saved, and the evaluation
    follows as at the end of the run. Changes of the weights or of the optimizer take effect; an
    error in a callback ends the run like any other error. Of several processes that train together,
    the first one alone calls them; there they must not change weights.

    Example:
        >>> class EarlyStop(Callback):
        ...     def on_epoch(self, training):
        ...         losses = [epoch.loss for epoch in training.epochs]
        ...         training.stop = min(losses) not in losses[-5:]
        >>> from simclr_ext.trainer import TrainConfig, train
        >>> train(TrainConfig(), callbacks=[EarlyStop()])  # doctest: +SKIP
    """

    def on_start(self, training: Training, config: ResolvedConfig, folder: Path) -> None:
        """Act before the first step of a new or resumed run.

        The state is already saved as `folder`/checkpoint.pt. `training.epochs` has the measurements
        of a resumed run's earlier epochs; later epochs that were measured before it was interrupted
        are repeated.
        """

    def on_step(self, training: Training) -> None:
        """Act after an optimizer step.

        `training.latest` has the loss and the accuracy of the last measured step (see
        `monitor.metrics_every`); it is empty if none was measured since a run was resumed.
        """

    def on_epoch(self, training: Training) -> None:
        """Act after an epoch; `training.epochs[-1]` has its measurements, also those of probes."""

    def on_checkpoint(self, training: Training, path: Path) -> None:
        """Act after the state was saved as `path`: checkpoint.pt, best.pt or epoch-NNNN.pt.

        Not called for the state before the first step, which is saved before `on_start`.
        """

    def on_picture(self, path: Path, step: int) -> None:
        """Act after pairs.png (step 0) or tsne.png (the last step) was drawn."""

    def on_result(self, training: Training, result: TrainResult) -> None:
        """Act when the result is on disk, before the last picture, which takes long, is drawn."""

    def on_end(self) -> None:
        """Act when the run is over, however it ended, if `on_start` has returned."""
