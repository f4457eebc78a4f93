"""The run folder and its files, written so that a run can be resumed whenever it ended."""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import yaml
from torch import nn

from simclr_ext.options.errors import CheckpointError, RunFolderError
from simclr_ext.options.read_yaml import read_yaml
from simclr_ext.options.serialize import differences
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.config import CHANGEABLE, ResolvedConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, Part, absolute_data
from simclr_ext.trainer.lock import LOCK, locked
from simclr_ext.trainer.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from simclr_ext.trainer.model.initial import INITIAL
from simclr_ext.trainer.training.health import TrainingWarning
from simclr_ext.trainer.training.state import Training

_CHECKPOINT, _PREVIOUS = "checkpoint.pt", "checkpoint-previous.pt"
_DAMAGED = "checkpoint-damaged.pt"
_CONFIG, _IMAGES, _BROKEN = "config.yaml", "images.csv", "broken.txt"
# What a start leaves that was killed before its first checkpoint: nothing to resume, or to keep.
_OF_NO_RUN = {LOCK, f"{_CHECKPOINT}.partial"}


class RunFolder:
    """The files of a run.

    Args:
        path: The folder.

    Attributes:
        path: The folder; `created` may append a number to one that is named after the time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._named_after_time = False

    @classmethod
    def choose(cls, config: TrainConfig) -> RunFolder:
        """Return the folder of a new run, which does not exist or is empty.

        Raises:
            RunFolderError: The folder is not empty, or a file.
        """
        if config.out is None:
            now = datetime.now().strftime("%Y%m%d-%H%M%S")
            name = re.sub(r"[^\w.-]+", "-", Path(absolute_data(config.data)).stem).strip("-.")
            folder = cls(Path("runs") / f"{name or 'images'}-{now}")
            folder._named_after_time = True
        else:
            folder = cls(Path(config.out).expanduser())
            folder._check_empty()
        return folder

    def _check_empty(self) -> None:
        """Raise RunFolderError if the folder has anything in it but `_OF_NO_RUN`, or is a file."""
        path = self.path
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"out: {path} is a file, not a folder")
        if path.exists() and any(file.name not in _OF_NO_RUN for file in path.iterdir()):
            raise RunFolderError(f"out: {path} exists and is not empty; runs are never overwritten")

    @contextmanager
    def created(self) -> Iterator[None]:
        """Create the folder and its parents, and keep other processes out of it.

        Raises:
            RunFolderError: It cannot be created, or another run has started in it.
        """
        try:
            if self._named_after_time:
                self.path = _make_new(self.path)
            else:
                self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"out: cannot create {self.path}: {error.strerror}") from error
        with locked(self.path):
            self._check_empty()
            yield

    def complete(self, training: Training, config: ResolvedConfig, data: Dataset) -> None:
        """Write what is missing beside the checkpoints: config.yaml, images.csv, initial.pt.

        Of a run whose first checkpoint exists: it may have been killed before the rest was written.

        Raises:
            StorageError: A file cannot be written.
        """
        if not (self.path / _CONFIG).exists():
            self._write_config(config)
        # The seed does not bring given weights back.
        if config.weights_are_given and training.step == 0 and not (self.path / INITIAL).exists():
            self.keep(INITIAL, training, config)
        if not (self.path / _IMAGES).exists():
            self._write_images(data)

    def outdate(self) -> None:
        """Remove what `complete` writes anew when options of the run, or its images, change."""
        for name in (_CONFIG, _IMAGES, _BROKEN):
            (self.path / name).unlink(missing_ok=True)

    def _write_config(self, config: ResolvedConfig) -> None:
        """Write config.yaml for readers; resuming uses the configuration in checkpoint.pt."""
        text = yaml.safe_dump(config.options.to_dict(), sort_keys=False)
        write_text(self.path / _CONFIG, text)

    def _write_images(self, data: Dataset) -> None:
        """Write images.csv: the id, part and class of every image; and what was left out."""
        rows = io.StringIO()
        writer = csv.writer(rows)
        writer.writerow(("id", "part", "class"))
        names = (*data.class_names, "")  # the last is that of NO_LABEL, -1
        for name, part in data.parts.items():
            for key, label in zip(map(os.fsdecode, part.ids), part.labels.tolist(), strict=True):
                writer.writerow((key, name, names[label]))
        if data.broken:
            write_text(self.path / _BROKEN, "".join(f"{text}\n" for text in data.broken))
        write_text(self.path / _IMAGES, rows.getvalue())

    @contextmanager
    def opened(self, module: nn.Module | None = None) -> Iterator[Checkpoint]:
        """Keep other processes out of the folder, and yield what `load` returns.

        Args:
            module: As for `load_checkpoint`.

        Raises:
            CheckpointError: As for `load`, or there is no checkpoint.
            RunFolderError: Another process is at work in the folder.
        """
        if not any((self.path / name).exists() for name in (_CHECKPOINT, _PREVIOUS)):
            raise CheckpointError(
                f"{self.path}: not a run that can be resumed: {_CHECKPOINT} is missing; start "
                "a new one"
            )
        with locked(self.path):
            yield self.load(module)

    def load(self, module: nn.Module | None = None) -> Checkpoint:
        """Return the last checkpoint, after comparing config.yaml with its configuration.

        If it is missing or damaged, return the one before it, with a warning.

        Args:
            module: As for `load_checkpoint`.

        Raises:
            CheckpointError: The checkpoints cannot be read, or config.yaml differs.
        """
        path, previous = self.path / _CHECKPOINT, self.path / _PREVIOUS
        try:
            checkpoint = load_checkpoint(path, module)
        except CheckpointError as error:
            if not previous.exists():
                raise
            checkpoint = load_checkpoint(previous, module)
            text = f"{error}; the run is resumed from the checkpoint before it, {previous.name}"
            warnings.warn(text, TrainingWarning, stacklevel=2)
            if path.exists():  # otherwise the next save would replace the good one with it
                path.replace(self.path / _DAMAGED)
        self._compare_config(checkpoint.config)
        return checkpoint

    def _compare_config(self, config: ResolvedConfig) -> None:
        """Raise CheckpointError if config.yaml differs from `config`; it may be missing."""
        file = self.path / _CONFIG
        advice = "delete config.yaml, and it is written again from checkpoint.pt"
        try:
            written = read_yaml(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
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
                f"{file} differs from the run's configuration in {fields}: a run keeps its "
                f"configuration, except for {', '.join(CHANGEABLE)}, which are options of "
                f"--resume; {advice}"
            )

    def save(self, training: Training, config: ResolvedConfig, images: Part) -> None:
        """Write checkpoint.pt, from which the run can be resumed, and keep the one before it.

        The state before the first step is a checkpoint like any other, and the first file of a run:
        every run has one unless it was lost.

        Args:
            training: The state.
            config: The run.
            images: The training images.

        Raises:
            DivergedError: The state is not finite; the checkpoint is unchanged.
            StorageError: The file cannot be written; the checkpoint is unchanged.
        """
        training.check_finite()
        epoch = len(training.epochs)
        state = {**training.state_dict(), "images": len(images), **images.marks}
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


def _make_new(path: Path) -> Path:
    """Create a new folder, with a number appended to its name if needed."""
    numbered, number = path, 1
    while True:
        try:
            numbered.mkdir(parents=True)
        except FileExistsError:  # a run that began in the same second
            number += 1
            numbered = path.with_name(f"{path.name}-{number}")
        else:
            return numbered
