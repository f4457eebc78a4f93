"""Loggers by name: a missing package is an error before the run; failing services end nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from simclr_ext import cli
from simclr_ext.options import extras
from simclr_ext.options.errors import ConfigError, MissingExtraError
from simclr_ext.trainer import Callback, MonitorConfig
from simclr_ext.trainer.config.monitor import Logger
from simclr_ext.trainer.probes.optional import EvaluationWarning
from simclr_ext.trainer.training.loggers import LOGGERS
from simclr_ext.trainer.training.loggers.service import Service
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Training

Run = Callable[..., TrainResult]


def test_every_name_has_a_logger() -> None:
    assert set(LOGGERS) == set(get_args(Logger))
    with pytest.raises(ConfigError, match=r"monitor.loggers must be without repetitions, got \('c"):
        MonitorConfig(loggers=("csv", "csv"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_an_error_before_the_run(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = extras.find_spec
    monkeypatch.setattr(
        extras, "find_spec", lambda module: None if module == name else found(module)
    )
    with pytest.raises(MissingExtraError) as error:
        run("csv", name)
    assert str(error.value) == (
        f"monitor.loggers {name} needs {name}: pip install 'simclr-ext[{name}]'"
    )
    assert not (tmp_path / "run").exists()


def test_the_command_line_takes_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--monitor.loggers", "csv,paper", "--out", str(tmp_path / "run")]
    assert cli.main(["train", *options]) == 2
    assert "monitor.loggers" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class Failing(Callback):
    """Fails in an epoch, and must not be called again."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_epoch(self, training: Training) -> None:
        self.epochs += 1
        if self.epochs == 2:
            raise TimeoutError("no\nanswer")

    def on_end(self) -> None:
        raise AssertionError("called after its failure")


def test_a_service_that_fails_is_one_warning(run: Run) -> None:
    logger = Failing()
    with pytest.warns(EvaluationWarning) as caught:
        result = run("csv", callbacks=(Service("the server", logger),))
    texts = [str(w.message) for w in caught if w.category is EvaluationWarning]
    assert texts == [
        "what would be sent to the server from here on is left out: TimeoutError: no answer"
    ]
    assert (len(result.epochs), logger.epochs) == (3, 2)


def test_loggers_do_not_change_the_training(run: Run, tmp_path: Path) -> None:
    plain = run()
    (tmp_path / "run").rename(tmp_path / "plain")
    logged = run("csv", "tensorboard", "jsonl")
    expected = plain.model.state_dict()
    assert all(value.equal(expected[name]) for name, value in logged.model.state_dict().items())
