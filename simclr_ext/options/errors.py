"""Errors that the user can fix; every message is one line."""

from __future__ import annotations


class TrainerError(Exception):
    """Base of the trainer's errors."""


class ConfigError(TrainerError, ValueError):
    """A value of the configuration is out of its range."""


class MissingExtraError(TrainerError, ImportError):
    """Packages that the trainer needs are not installed."""


class DataError(TrainerError, ValueError):
    """The data cannot be read, or do not suit the run."""


class DeviceError(TrainerError, ValueError):
    """PyTorch does not know the device, or this machine lacks it."""


class RunFolderError(TrainerError, FileExistsError):
    """The run folder is taken, or cannot be created."""


class TrainingInterrupted(KeyboardInterrupt):
    """A signal ended a run, whose state was saved first.

    Attributes:
        signal: Its number.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class DivergedError(TrainerError, ArithmeticError):
    """The loss is not finite."""


class CheckpointError(TrainerError, ValueError):
    """A file is not a checkpoint of this package."""


class ExportError(TrainerError, ArithmeticError):
    """The output of an exported file differs from the encoder's."""
