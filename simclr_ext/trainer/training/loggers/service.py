"""Loggers of a service, which may fail without ending the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.probes.optional import left_out
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Training


class Service(Callback):
    """Calls a logger until it raises an error, which becomes a warning of one line.

    A service is not told of steps and checkpoints.

    Args:
        name: Name of the service, for the warning.
        logger: Its logger.
    """

    def __init__(self, name: str, logger: Callback) -> None:
        self._name, self._logger, self._failed = name, logger, False

    def on_start(self, training: Training, config: ResolvedConfig, folder: Path) -> None:
        """Start or continue the service's run."""
        self._call(self._logger.on_start, training, config, folder)

    def on_epoch(self, training: Training) -> None:
        """Send an epoch's measurements."""
        self._call(self._logger.on_epoch, training)

    def on_picture(self, path: Path, step: int) -> None:
        """Send a picture."""
        self._call(self._logger.on_picture, path, step)

    def on_result(self, training: Training, result: TrainResult) -> None:
        """Send the test accuracies."""
        self._call(self._logger.on_result, training, result)

    def on_end(self) -> None:
        """End the service's run."""
        self._call(self._logger.on_end)

    def _call(self, act: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        self._failed = True  # unless the next lines succeed
        with left_out(f"what would be sent to {self._name} from here on"):
            act(*arguments)
            self._failed = False
