"""metrics.jsonl: a line per epoch, and one of the test accuracies, each a JSON object."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.loggers.values import score_values
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Training


class Jsonl(Callback):
    """Writes the whole file after every epoch, so that no line is lost or repeated."""

    def on_start(self, training: Training, config: ResolvedConfig, folder: Path) -> None:
        """Write the lines of the epochs done before."""
        self._path = folder / "metrics.jsonl"
        self._write(training)

    def on_epoch(self, training: Training) -> None:
        """Write the lines of all epochs."""
        self._write(training)

    def on_result(self, training: Training, result: TrainResult) -> None:
        """Add the line of the test accuracies, if there are any."""
        if result.scores:
            self._write(training, {"step": training.step, **score_values(result.scores)})

    def _write(self, training: Training, *last: Mapping[str, Any]) -> None:
        lines = [*map(dataclasses.asdict, training.epochs), *last]
        write_text(self._path, "".join(f"{json.dumps(line)}\n" for line in lines))
