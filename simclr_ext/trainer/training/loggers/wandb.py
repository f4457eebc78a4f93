"""Weights & Biases: the service reads its settings from WANDB_MODE, WANDB_PROJECT and the like."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from simclr_ext.options.extras import require
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.loggers.values import epoch_values, score_values
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Epoch, Training


class Wandb(Callback):
    """Logs to a W&B run, whose id is in the run folder.

    W&B accepts no step before the last one that it has. So a resumed run sends later epochs only.
    Offline, each part of a run is a folder of its own in wandb/, and has all epochs so far.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self) -> None:
        require("wandb", "wandb", "monitor.loggers wandb")
        self._complete = False

    def on_start(self, training: Training, config: ResolvedConfig, folder: Path) -> None:
        """Start the W&B run, or continue it."""
        import wandb

        file = folder / "wandb.id"
        if not file.exists():
            write_text(file, secrets.token_hex(4))
        self._run = wandb.init(
            id=file.read_text(encoding="utf-8"),
            name=folder.name,
            project=os.environ.get("WANDB_PROJECT", "simclr-ext"),
            dir=folder,
            config=config.options.to_dict(),
            allow_val_change=True,  # of options that a resumed run may change
            resume="allow",
            reinit="create_new",  # the caller may have a run of its own
            settings=wandb.Settings(console="off"),
        )
        for epoch in training.epochs:
            self._write_epoch(epoch)

    def on_epoch(self, training: Training) -> None:
        """Log an epoch's measurements."""
        self._write_epoch(training.epochs[-1])

    def on_picture(self, path: Path, step: int) -> None:
        """Log a picture, under its file's name without the suffix."""
        import wandb

        self._write({path.stem: wandb.Image(str(path))}, step)

    def on_result(self, training: Training, result: TrainResult) -> None:
        """Write the test accuracies to the summary of the W&B run."""
        self._run.summary.update(score_values(result.scores))
        self._complete = True

    def on_end(self) -> None:
        """Wait until everything is sent, and mark the W&B run as finished or failed."""
        self._run.finish(exit_code=0 if self._complete else 1)

    def _write_epoch(self, epoch: Epoch) -> None:
        self._write(epoch_values(epoch), epoch.step)

    def _write(self, values: dict[str, Any], step: int) -> None:
        if step >= self._run.step:
            self._run.log(values, step=step)
