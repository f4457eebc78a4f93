"""Errors that the user can fix; every message is one line."""

from __future__ import annotations


class UserError(Exception):
    """Base of these errors."""


class ConfigError(UserError, ValueError):
    """A value of the configuration is not allowed."""


class MissingExtraError(UserError, ImportError):
    """Packages that the trainer needs are not installed."""


class MissingArgumentError(UserError, TypeError):
    """A run with an encoder or an augmentation of the user's own needs it as an argument."""


class DataError(UserError, ValueError):
    """The data cannot be read, or do not suit the run."""


class DeviceError(UserError, ValueError):
    """PyTorch does not know the device, or this machine does not have it."""


class RunFolderError(UserError, FileExistsError):
    """The run folder is already in use, or cannot be created."""


class WorkerError(UserError, RuntimeError):
    """A process that decodes images has ended."""


class JobError(UserError, RuntimeError):
    """A process of a job has ended, or does not fit to the others."""


class PeerError(JobError):
    """Another process of the job has failed, and reports it.

    Attributes:
        kind: The type of its error.
    """

    def __init__(self, message: str, kind: type[BaseException] = Exception) -> None:
        super().__init__(message)
        self.kind = kind


class StorageError(UserError, OSError):
    """A file cannot be written: the disk is full, or the folder is read-only."""


class TrainingInterrupted(KeyboardInterrupt):
    """A signal ended a run, after its state was saved.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class DivergedError(UserError, ArithmeticError):
    """The loss is not finite."""


class CheckpointError(UserError, ValueError):
    """A file of weights is missing, damaged, or does not fit."""


class ExportError(UserError, ArithmeticError):
    """The output of an exported file differs from the encoder's."""
