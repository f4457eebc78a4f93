"""metrics.csv: a row per epoch."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.state import Epoch, Training


class Csv(Callback):
    """Writes the whole file after every epoch, so that no row is lost or repeated."""

    def on_start(self, training: Training, config: ResolvedConfig, folder: Path) -> None:
        """Write the rows of the epochs done before."""
        self._path = folder / "metrics.csv"
        self.on_epoch(training)

    def on_epoch(self, training: Training) -> None:
        """Write the rows of all epochs."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Epoch)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, training.epochs))
        write_text(self._path, text.getvalue())
