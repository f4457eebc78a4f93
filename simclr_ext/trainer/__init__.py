"""A SimCLR trainer on top of the loss.

>>> from simclr_ext.trainer import TrainConfig, train
>>> result = train(TrainConfig(data="digits"))  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simclr_ext.trainer.config import (
    DEMO,
    PRESETS,
    AugmentConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
)
from simclr_ext.trainer.config.serialise import to_plain
from simclr_ext.trainer.errors import MissingExtraError, TrainerError
from simclr_ext.trainer.extras import EXTRA_PACKAGES, require_extra

if TYPE_CHECKING:
    from simclr_ext.trainer.run import TrainResult

__all__ = [
    "DEMO",
    "EXTRA_PACKAGES",
    "PRESETS",
    "AugmentConfig",
    "MissingExtraError",
    "ModelConfig",
    "MonitorConfig",
    "OptimConfig",
    "TrainConfig",
    "TrainerError",
    "resume",
    "to_plain",
    "train",
]


def train(config: TrainConfig) -> TrainResult:
    """Train SimCLR, compare the encoder with raw pixels and with itself untrained, write it all.

    Args:
        config: The run. With `threads` set, PyTorch has that many threads until the run ends.

    Returns:
        The run folder, the resolved configuration, the trained model, every epoch's measurements
        and the test accuracies.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        DataError: `config.data` cannot be read, or has too few images for a batch.
        DeviceError: `config.device` cannot be used.
        BackendUnavailableError: The loss cannot be computed on this device.
        RunFolderError: The run folder exists and is not empty, or cannot be created.
        DivergedError: The loss is not finite.
    """
    require_extra()
    # Here and not above: the configuration must be importable without the extra.
    from simclr_ext.trainer.run import run

    return run(config)


def resume(folder: str | Path) -> TrainResult:
    """Go on with a run that was cut off, from its last checkpoint.

    On a CPU, with the run's number of threads, the result is the one of a run that was not cut off,
    bit by bit. A run that was complete is evaluated again.

    Args:
        folder: The run folder.

    Returns:
        As `train`.

    Raises:
        CheckpointError: The folder is not that of a run, or its data have changed.
        DataError: As for `train`, like the other errors there.
    """
    require_extra()
    from simclr_ext.trainer.run import resume as run_on

    return run_on(folder)
