"""MLflow's local file store: what is in it after a run, and after a resumed one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simclr_ext.trainer import resume
from simclr_ext.trainer.probes.optional import EvaluationWarning
from simclr_ext.trainer.training.result import TrainResult

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: make extras")

Run = Callable[..., TrainResult]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")


def logged(folder: Path) -> Any:
    return mlflow.MlflowClient().get_run((folder / "mlflow.id").read_text())


def history(folder: Path, name: str) -> list[tuple[int, float]]:
    run = logged(folder).info.run_id
    found = mlflow.MlflowClient().get_metric_history(run, name)
    return [(metric.step, metric.value) for metric in found]


def artifacts(folder: Path) -> set[str]:
    found = mlflow.MlflowClient().list_artifacts(logged(folder).info.run_id)
    return {artifact.path for artifact in found}


def test_a_run_with_its_configuration_measurements_and_pictures(run: Run) -> None:
    result = run("mlflow", evaluate=True)
    found = logged(result.folder)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert mlflow.MlflowClient().get_experiment(found.info.experiment_id).name == "simclr-ext"
    assert found.data.params["model.width"] == "4"
    assert found.data.params["optim.warmup_epochs"] == "0.3"
    losses = [(epoch.step, epoch.loss) for epoch in result.epochs]
    assert history(result.folder, "train/loss") == losses
    accuracy = result.scores["trained encoder"].linear_all.mean
    assert history(result.folder, "test/linear_all/trained_encoder") == [(6, accuracy)]
    assert artifacts(result.folder) == {"config.yaml", "pairs.png", "tsne.png"}


def test_a_resumed_run_continues_without_doubling(run_twice: Run) -> None:
    result = run_twice("mlflow")
    assert history(result.folder, "train/loss") == [(e.step, e.loss) for e in result.epochs]
    longer = resume(result.folder, epochs=4)
    assert [step for step, _ in history(result.folder, "train/loss")] == [2, 4, 6, 8]
    client, identity = mlflow.MlflowClient(), logged(longer.folder).info
    assert [r.info.run_id for r in client.search_runs([identity.experiment_id])] == [
        identity.run_id
    ]
    assert identity.status == "FINISHED"
    written = Path(client.download_artifacts(identity.run_id, "config.yaml")).read_text()
    assert written == (longer.folder / "config.yaml").read_text()


def test_epochs_that_the_store_has_missed_are_sent_when_resumed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_batch", broken)
        with pytest.warns(EvaluationWarning, match="MLflow from here on is left out: Connection"):
            folder = run("mlflow").folder
    result = resume(folder)
    assert history(folder, "train/loss") == [(e.step, e.loss) for e in result.epochs]


def broken(*_: object, **__: object) -> None:
    raise ConnectionError("refused")
