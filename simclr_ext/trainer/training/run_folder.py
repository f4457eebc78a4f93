"""The run folder: what is written where, so that a run can be resumed whenever it ended."""

from __future__ import annotations

import csv
import dataclasses
import io
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import yaml

from simclr_ext.options.errors import CheckpointError, RunFolderError
from simclr_ext.options.serialize import differences
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.config import ResolvedConfig, TrainConfig
from simclr_ext.trainer.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from simclr_ext.trainer.training.health import TrainingWarning
from simclr_ext.trainer.training.state import Epoch, Training

_CHECKPOINT, _PREVIOUS = "checkpoint.pt", "checkpoint-previous.pt"
CHANGEABLE = ("device", "threads", "workers", "epochs")  # when a run is resumed


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

    def create(self, training: Training, config: ResolvedConfig, images: int) -> None:
        """Create the folder and its parents, with the run's configuration and first state in it.

        The state before the first step is a checkpoint like any other: a run can be resumed from
        the moment on in which it has a folder, and one without a checkpoint has lost it.

        Raises:
            RunFolderError: It cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"out: cannot create {self.path}: {error.strerror}") from error
        self.write_config(config)
        self.save(training, config, images)

    def write_config(self, config: ResolvedConfig) -> None:
        """Write config.yaml, which is for people: the truth is in checkpoint.pt."""
        text = yaml.safe_dump(config.options.to_dict(), sort_keys=False)
        write_text(self.path / "config.yaml", text)

    def load(self) -> Checkpoint:
        """Return the last checkpoint, after a comparison of config.yaml with its configuration.

        If it is missing or damaged, that is the one before it, with a warning.

        Raises:
            CheckpointError: The folder is not that of a run, its checkpoints are missing or cannot
                be read, or config.yaml says something else.
        """
        path, previous = self.path / _CHECKPOINT, self.path / _PREVIOUS
        if not path.exists() and not previous.exists():
            kind = "is missing" if (self.path / "config.yaml").exists() else "is not in it"
            raise CheckpointError(f"{self.path}: not a run that can be resumed: {path.name} {kind}")
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            if not previous.exists():
                raise
            checkpoint = load_checkpoint(previous)
            text = f"{error}; the run is resumed from the checkpoint before it, {previous.name}"
            warnings.warn(text, TrainingWarning, stacklevel=2)
            path.unlink(missing_ok=True)  # else the next one to be written would keep it
        self._compare_config(checkpoint.config)
        return checkpoint

    def _compare_config(self, config: ResolvedConfig) -> None:
        """Raise CheckpointError if config.yaml is not the checkpoint's; write it if it is gone."""
        file = self.path / "config.yaml"
        advice = "delete config.yaml, and it is written anew from checkpoint.pt"
        try:
            written = yaml.safe_load(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.write_config(config)
            return
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{file}: not readable ({reason}); {advice}") from error
        if not isinstance(written, dict):
            raise CheckpointError(f"{file}: not a configuration; {advice}")
        if other := differences(written, config.options.to_dict()):
            fields = ", ".join(
                f"{name} ({there} there, {here} in checkpoint.pt)"
                for name, (there, here) in other.items()
            )
            raise CheckpointError(
                f"{file} differs from the run's configuration in {fields}: a run keeps what it "
                f"began with, but for {', '.join(CHANGEABLE)}, which are options of --resume; "
                f"{advice}"
            )

    def save(self, training: Training, config: ResolvedConfig, images: int) -> None:
        """Write checkpoint.pt, from which the run can be resumed, and keep the one before it.

        Raises:
            DivergedError: The state is not finite; the checkpoint is left as it is.
        """
        training.check_finite()
        epoch = len(training.epochs)
        state = {**training.state_dict(), "images": images}
        path, previous = self.path / _CHECKPOINT, self.path / _PREVIOUS
        save_checkpoint(path, training.model, config, epoch, state, previous)

    def keep(self, name: str, training: Training, config: ResolvedConfig) -> None:
        """Write a checkpoint of the model alone, such as best.pt.

        Raises:
            DivergedError: As for `save`.
        """
        training.check_finite()
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
