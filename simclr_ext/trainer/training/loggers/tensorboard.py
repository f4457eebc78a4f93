"""TensorBoard: curves of the measurements, test accuracies and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from simclr_ext.options.errors import StorageError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.loggers.values import epoch_values, score_values
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Epoch, Training


class TensorBoard(Callback):
    """Writes one file of events; a resumed run writes it anew, so that no step is repeated.

    A thread of TensorBoard's writes the file; its errors are raised by a later call.

    Raises:
        StorageError: The file cannot be written.
    """

    def on_start(self, training: Training, config: ResolvedConfig, folder: Path) -> None:
        """Write the epochs done before."""
        self._folder = folder
        with self._storing():
            for path in folder.glob("events.out.tfevents.*"):
                path.unlink()
            self._board = SummaryWriter(str(folder))
            for epoch in training.epochs:
                self._write(epoch)

    def on_epoch(self, training: Training) -> None:
        """Write an epoch's measurements."""
        with self._storing():
            self._write(training.epochs[-1])

    def on_picture(self, path: Path, step: int) -> None:
        """Write a picture, under its file's name without the suffix."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        with self._storing():
            self._board.add_image(path.stem, pixels, step, dataformats="HWC")

    def on_result(self, training: Training, result: TrainResult) -> None:
        """Write the test accuracies."""
        with self._storing():
            for name, value in score_values(result.scores).items():
                self._board.add_scalar(name, value, training.step)
            self._board.flush()

    def on_end(self) -> None:
        """Close the file."""
        with self._storing():
            self._board.close()

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(
                f"{self._folder}: TensorBoard's events cannot be written: {reason}"
            ) from error

    def _write(self, epoch: Epoch) -> None:
        for name, value in epoch_values(epoch).items():
            self._board.add_scalar(name, value, epoch.step)
