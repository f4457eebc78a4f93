"""Runs that start from given weights: what they read, keep, and how they name the encoder."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml

from simclr_ext.cli import main
from simclr_ext.options.errors import CheckpointError
from simclr_ext.trainer import (
    EvalConfig,
    FinetuneConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    SgdConfig,
    TrainConfig,
    evaluate_checkpoint,
    finetune_checkpoint,
    resume,
    train,
)
from simclr_ext.trainer.commands.train import TrainResult
from simclr_ext.trainer.model.checkpoint import load_checkpoint
from simclr_ext.trainer.probes.optional import EvaluationWarning

CONFIG = TrainConfig(
    image_size=8,
    epochs=1,
    batch_size=359,
    threads=1,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
    optim=OptimConfig(warmup_epochs=0),
    monitor=MonitorConfig(knn_every=0),
)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from random weights."""
    out = tmp_path_factory.mktemp("first") / "run"
    return train(dataclasses.replace(CONFIG, out=str(out), evaluate=False)).folder


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run from the weights of the first."""
    out = tmp_path_factory.mktemp("second") / "run"
    return train(dataclasses.replace(CONFIG, out=str(out), init=str(first), seed=1))


def test_a_run_keeps_the_weights_it_starts_from(first: Path, second: TrainResult) -> None:
    theirs = load_checkpoint(first / "checkpoint.pt").model.state_dict()
    kept = load_checkpoint(second.folder / "initial.pt").model.state_dict()
    for name, value in kept.items():
        assert torch.equal(value, theirs[name]), name
    assert not (first / "initial.pt").exists()
    assert list(second.scores) == ["raw pixels", "initial encoder", "trained encoder"]
    written = json.loads((second.folder / "evaluation.json").read_text())
    assert list(written["test_accuracy"]) == list(second.scores)


def test_the_path_is_stored_absolute_and_what_is_loaded_is_said(
    first: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(first.parent)
    out = str(tmp_path / "run")
    result = train(dataclasses.replace(CONFIG, out=out, init="run", evaluate=False))
    assert result.config.init == str(first)
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["init"] == str(first)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(f"of the head from {first}/checkpoint.pt")
    assert lines[1].startswith("digits: ")
    assert lines[2].startswith("training: ")


def test_resume_does_not_read_the_weights_again(
    second: TrainResult, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "weights.pt"
    source.write_bytes((first / "checkpoint.pt").read_bytes())
    out = tmp_path / "run"
    config = dataclasses.replace(CONFIG, out=str(out), init=str(source), seed=1, evaluate=False)
    train(config)
    source.unlink()
    capsys.readouterr()
    again = resume(out, epochs=2)
    assert "init:" not in capsys.readouterr().err
    assert len(again.epochs) == 2
    assert again.epochs[0].loss == second.epochs[0].loss


def test_eval_and_finetune_know_the_initial_encoder(second: TrainResult, tmp_path: Path) -> None:
    folder, out = str(second.folder), str(tmp_path)
    config = EvalConfig(folder, probes=("knn",), cache=False, out=out)
    rows = ["raw pixels", "initial encoder", "trained encoder"]
    assert list(evaluate_checkpoint(config).accuracies) == rows
    sgd = SgdConfig(epochs=1)
    tuned = finetune_checkpoint(FinetuneConfig(folder, labels=0.05, scratch=True, sgd=sgd, out=out))
    assert tuned.start == "initial encoder"


def test_without_initial_pt(second: TrainResult, tmp_path: Path) -> None:
    lost = tmp_path / "run"
    lost.mkdir()
    (lost / "checkpoint.pt").write_bytes((second.folder / "checkpoint.pt").read_bytes())
    config = EvalConfig(str(lost), probes=("knn",))
    with pytest.raises(CheckpointError, match=r"initial.pt: no such file; .* before training"):
        evaluate_checkpoint(config)
    without = evaluate_checkpoint(dataclasses.replace(config, baselines=False))
    assert list(without.accuracies) == ["trained encoder"]
    with pytest.warns(EvaluationWarning, match="evaluation of initial encoder is left out: "):
        assert list(resume(lost).scores) == ["raw pixels", "trained encoder"]


def test_errors_come_before_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = ["--data", "digits", "--out", str(out)]
    assert main(["train", "--init", str(tmp_path / "none.pt"), *options]) == 2
    assert capsys.readouterr().err == (
        f"simclr-ext: error: init: {tmp_path}/none.pt: no such file\n"
    )
    assert main(["train", "--resume", str(out), "--init", "a.pt"]) == 2
    assert "got --init" in capsys.readouterr().err
    assert main(["train", "--init", ""]) == 2
    assert "init must be null, the path of weights" in capsys.readouterr().err
    assert not out.exists()
