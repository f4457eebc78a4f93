"""The run folder: what is written where, so that a run can be resumed whenever it ended."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import yaml

from simclr_ext.options.errors import CheckpointError, RunFolderError
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.config import ResolvedConfig, TrainConfig
from simclr_ext.trainer.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from simclr_ext.trainer.training.state import Epoch, Training


class RunFolder:
    """The files of a run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def choose(cls, config: TrainConfig) -> RunFolder:
        """Return the folder of a new run, which does not exist or is empty.

        Raises:
            RunFolderError: Something is there already.
        """
        if config.out is None:
            now = datetime.now().strftime("%Y%m%d-%H%M%S")
            path = Path("runs") / f"{Path(config.data).stem}-{now}"
        else:
            path = Path(config.out).expanduser()
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"out: {path} is a file, not a folder")
        if path.exists() and any(path.iterdir()):
            raise RunFolderError(f"out: {path} exists and is not empty; runs are never overwritten")
        return cls(path)

    def create(self, config: ResolvedConfig) -> None:
        """Create the folder and its parents, with the run's configuration in it.

        Raises:
            RunFolderError: It cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"out: cannot create {self.path}: {error.strerror}") from error
        text = yaml.safe_dump(config.options.to_dict(), sort_keys=False)
        write_text(self.path / "config.yaml", text)

    def load(self) -> tuple[TrainConfig, Checkpoint | None]:
        """Return the configuration and the last checkpoint, if there is one yet.

        Raises:
            CheckpointError: The folder is not that of a run.
        """
        file = self.path / "config.yaml"
        try:
            config = TrainConfig.from_dict(yaml.safe_load(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{self.path}: not a run folder ({reason})") from error
        path = self.path / "checkpoint.pt"
        return config, load_checkpoint(path) if path.exists() else None

    def save(self, training: Training, config: ResolvedConfig, images: int) -> None:
        """Write checkpoint.pt, from which the run can be resumed."""
        epoch = len(training.epochs)
        state = {**training.state_dict(), "images": images}
        path = self.path / "checkpoint.pt"
        save_checkpoint(path, training.model, config, epoch, state)

    def keep(self, name: str, training: Training, config: ResolvedConfig) -> None:
        """Write a checkpoint of the model alone, such as best.pt."""
        epoch = len(training.epochs)
        save_checkpoint(self.path / name, training.model, config, epoch)

    def remove_events(self) -> None:
        """Remove TensorBoard's files, which a resumed run writes anew, like metrics.csv."""
        for path in self.path.glob("events.out.tfevents.*"):
            path.unlink()

    def write_metrics(self, epochs: Sequence[Epoch]) -> None:
        """Write metrics.csv anew, so that no row is lost or doubled, wherever a run ended."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Epoch)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, epochs))
        write_text(self.path / "metrics.csv", text.getvalue())
