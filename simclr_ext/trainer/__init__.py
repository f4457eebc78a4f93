"""A SimCLR trainer on top of the loss.

>>> from simclr_ext.trainer import TrainConfig, train
>>> result = train(TrainConfig(data="digits"))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simclr_ext.trainer.config import DEMO, AugmentConfig, ModelConfig, OptimConfig, TrainConfig
from simclr_ext.trainer.config.serialise import to_plain
from simclr_ext.trainer.errors import MissingExtraError, TrainerError
from simclr_ext.trainer.extras import EXTRA_PACKAGES, require_extra

if TYPE_CHECKING:
    from simclr_ext.trainer.run import TrainResult

__all__ = [
    "DEMO",
    "EXTRA_PACKAGES",
    "AugmentConfig",
    "MissingExtraError",
    "ModelConfig",
    "OptimConfig",
    "TrainConfig",
    "TrainerError",
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
