"""The result of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.probes.scores import Scores
from simclr_ext.trainer.probes.tables import format_table
from simclr_ext.trainer.training.state import Epoch


@dataclass(frozen=True)
class TrainResult:
    """The result of a run.

    Attributes:
        folder: The run folder.
        config: The resolved configuration.
        model: The trained model, in evaluation mode.
        epochs: Measurements of every epoch.
        scores: Test accuracies of "raw pixels", "untrained encoder" ("initial encoder" if its
            weights were given) and "trained encoder"; empty if
            `config.evaluate` is false; without those that could not be evaluated.
    """

    folder: Path
    config: ResolvedConfig
    model: SimCLR
    epochs: tuple[Epoch, ...]
    scores: dict[str, Scores]

    @property
    def table(self) -> str:
        """The scores as a table of text."""
        return format_table(self.scores)

    def __str__(self) -> str:
        """Return what the command line prints."""
        table = f"{self.table}\n\n" if self.scores else ""
        return f"{table}run folder: {self.folder}"
