"""MLflow: the service reads its settings from MLFLOW_TRACKING_URI and the like."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simclr_ext.options.extras import require
from simclr_ext.options.serialize import flat
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.loggers.values import epoch_values, score_values
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Training

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Mlflow(Callback):
    """Logs to an MLflow run, whose id is in the run folder.

    MLflow keeps every value of a metric that it is sent. So a resumed run sends only those of steps
    that the MLflow run does not have. Its parameters cannot change: what a resumed run has changed
    is in the artifact config.yaml.

    Raises:
        MissingExtraError: mlflow is not installed.
    """

    def __init__(self) -> None:
        require("mlflow", "mlflow", "monitor.loggers mlflow")
        self._complete = False

    def on_start(self, training: Training, config: ResolvedConfig, folder: Path) -> None:
        """Start the MLflow run, or continue it."""
        from mlflow import MlflowClient

        self._client = MlflowClient()
        file = folder / "mlflow.id"
        if not file.exists():
            write_text(file, _create_run(self._client, config, folder.name))
        self._id = file.read_text(encoding="utf-8")
        self._client.update_run(self._id, status="RUNNING")
        self._client.log_artifact(self._id, str(folder / "config.yaml"))
        self._sent = {
            (name, metric.step)
            for name in self._client.get_run(self._id).data.metrics
            for metric in self._client.get_metric_history(self._id, name)
        }
        for epoch in training.epochs:
            self._write(epoch_values(epoch), epoch.step)

    def on_epoch(self, training: Training) -> None:
        """Log an epoch's measurements."""
        self._write(epoch_values(training.epochs[-1]), training.step)

    def on_picture(self, path: Path, step: int) -> None:
        """Store a picture as an artifact, which replaces the one of this name."""
        self._client.log_artifact(self._id, str(path))

    def on_result(self, training: Training, result: TrainResult) -> None:
        """Log the test accuracies."""
        self._write(score_values(result.scores), training.step)
        self._complete = True

    def on_end(self) -> None:
        """Mark the MLflow run as finished or killed."""
        self._client.set_terminated(self._id, "FINISHED" if self._complete else "KILLED")

    def _write(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [
            Metric(name, value, now, step)
            for name, value in values.items()
            if (name, step) not in self._sent
        ]
        self._client.log_batch(self._id, metrics=metrics)


def _create_run(client: MlflowClient, config: ResolvedConfig, name: str) -> str:
    """Create a run with the configuration as its parameters, and return its id."""
    from mlflow.entities import Param

    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "simclr-ext")
    created: str = client.create_run(_experiment(client, experiment), run_name=name).info.run_id
    parameters = [Param(key, str(value)) for key, value in flat(config.options.to_dict())]
    client.log_batch(created, params=parameters)
    return created


def _experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, which is created if there is none of this name."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # by a run that began at the same time, or there is a real reason
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
