"""Loggers: callbacks that write what a run measures, chosen by `monitor.loggers`.

There is a file for each. Those that write files raise an error if they cannot; those of a service
are left out for the rest of the run, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.loggers.csv import Csv
from simclr_ext.trainer.training.loggers.jsonl import Jsonl
from simclr_ext.trainer.training.loggers.mlflow import Mlflow
from simclr_ext.trainer.training.loggers.service import Service
from simclr_ext.trainer.training.loggers.tensorboard import TensorBoard
from simclr_ext.trainer.training.loggers.wandb import Wandb

LOGGERS: dict[str, Callable[[], Callback]] = {
    "csv": Csv,
    "tensorboard": TensorBoard,
    "jsonl": Jsonl,
    "wandb": lambda: Service("W&B", Wandb()),
    "mlflow": lambda: Service("MLflow", Mlflow()),
}


def build_loggers(names: Sequence[str]) -> list[Callback]:
    """Return the loggers of these names.

    Raises:
        MissingExtraError: The package of one of them is not installed.
    """
    return [LOGGERS[name]() for name in names]
