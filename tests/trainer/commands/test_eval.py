"""The eval command: its files, other data sets, several runs, the cache of features."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simclr_ext.cli import main
from simclr_ext.options.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    RunFolderError,
)
from simclr_ext.trainer.api import evaluate_checkpoint
from simclr_ext.trainer.commands import eval as eval_command
from simclr_ext.trainer.config.commands import EvalConfig, SgdConfig
from simclr_ext.trainer.probes.optional import EvaluationWarning

ALL = ("knn", "lbfgs", "sgd")
SHORT = SgdConfig(epochs=2, batch_size=8)


def test_all_probes_of_all_representations(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint()
    config = EvalConfig(str(path), probes=ALL, sgd=SHORT, c=(0.1, 10.0), threads=1)
    result = evaluate_checkpoint(config)
    assert result.folder == path.parent / "eval-tiny"
    contents = json.loads((result.folder / "evaluation.json").read_text())
    found = contents["test_accuracy"]
    assert {name: list(row) for name, row in found.items()} == {
        "raw pixels": ["knn", "lbfgs"],
        "untrained encoder": [*ALL],
        "trained encoder": [*ALL],
    }
    # This checkpoint's model was not trained.
    assert found["trained encoder"] == found["untrained encoder"]
    assert contents["protocol"]["chosen_c"][0] in (0.1, 10.0)
    assert contents["protocol"]["sgd"]["batch_size"] == 8
    table = (result.folder / "evaluation.md").read_text()
    assert table.splitlines()[0].split("|")[2:5] == [" k-NN ", " linear, L-BFGS ", " linear, SGD "]
    assert result.table in str(result)


def test_features_are_kept(
    write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint()
    config = EvalConfig(str(path.parent), baselines=False)
    first = evaluate_checkpoint(config)
    assert len(list((path.parent / "features").iterdir())) == 2

    def fail(*_: object) -> None:
        raise ArithmeticError("computed again")

    monkeypatch.setattr(eval_command, "encode", fail)
    assert evaluate_checkpoint(config) == first
    with pytest.raises(ArithmeticError):
        evaluate_checkpoint(dataclasses.replace(config, cache=False))
    with pytest.raises(ArithmeticError):  # another representation
        evaluate_checkpoint(dataclasses.replace(config, baselines=True))


def test_transfer_to_gray_images_of_another_size(
    write_checkpoint: Callable[..., Path], write_npz: Callable[..., Path], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    gray = {
        "train_images": random.integers(0, 256, (20, 5, 5), dtype=np.uint8),
        "train_labels": np.arange(20) % 2,
        "test_images": random.integers(0, 256, (6, 5, 5), dtype=np.uint8),
        "test_labels": np.arange(6) % 2,
        "class_names": None,
    }
    other, out = write_npz("gray", **gray), tmp_path / "results"
    config = EvalConfig(str(write_checkpoint()), data=str(other), out=str(out), probes=ALL)
    result = evaluate_checkpoint(dataclasses.replace(config, sgd=SHORT, augment=False))
    assert (result.data, result.folder) == ("gray", out)
    assert list(result.accuracies["raw pixels"]) == [*ALL]


def test_several_runs_have_a_mean_and_a_deviation(write_checkpoint: Callable[..., Path]) -> None:
    paths = [write_checkpoint(f"run{seed}", seed=seed) for seed in range(3)]
    config = EvalConfig(str(paths[0]), also=(str(paths[1]), str(paths[2])), baselines=False)
    result = evaluate_checkpoint(config)
    accuracy = result.accuracies["trained encoder"]["knn"]
    single = [
        evaluate_checkpoint(EvalConfig(str(path), baselines=False)).accuracies["trained encoder"]
        for path in paths
    ]
    assert accuracy.draws == tuple(found["knn"].mean for found in single)
    assert "deviation over 3 checkpoints" in result.table


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": ()}, "probes must be one or more"),
        ({"neighbors": 0}, "neighbors must be at least 1"),
        ({"c": (1.0, 0.0)}, "c must be positive"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"checkpoint": ""}, "checkpoint must be"),
        ({"threads": 0}, "threads must be"),
    ],
)
def test_wrong_options(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvalConfig(**{"checkpoint": "x", **changes})  # type: ignore[arg-type]


def test_wrong_input(write_checkpoint: Callable[..., Path], write_npz: Callable[..., Path]) -> None:
    digits = write_checkpoint(data="digits")
    with pytest.raises(DataError, match="takes gray images, but images of tiny have 3 channels"):
        evaluate_checkpoint(EvalConfig(str(digits), data=str(write_npz())))
    with pytest.raises(CheckpointError, match=r"gone.pt: no such run folder or checkpoint"):
        evaluate_checkpoint(EvalConfig(str(digits.parent / "gone.pt")))
    with pytest.raises(DeviceError, match=r"device must be .*, got 'abacus'"):
        evaluate_checkpoint(EvalConfig(str(digits), device="abacus"))


def test_command(write_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = write_checkpoint()
    assert main(["eval", str(path), "--probes", "[knn]", "--baselines", "false"]) == 0
    assert "| trained encoder " in capsys.readouterr().out
    assert main(["eval", str(path), "--probes", "[oracle]"]) == 2
    assert "probes" in capsys.readouterr().err


def test_a_folder_that_takes_no_features_does_without(
    write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_checkpoint()
    (path.parent / "features").touch()  # a file, so that the folder cannot be created
    config = EvalConfig(str(path), out=str(tmp_path / "elsewhere"), probes=("knn",))
    with pytest.warns(EvaluationWarning, match="features are not kept: File exists"):
        result = evaluate_checkpoint(config)
    assert result.folder == tmp_path / "elsewhere"
    assert (result.folder / "evaluation.json").exists()


def test_a_folder_that_cannot_be_created_costs_no_evaluation(
    write_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object) -> None:
        raise AssertionError("the folder must be created first")

    monkeypatch.setattr("simclr_ext.trainer.commands.eval._evaluate", no_work)
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="out: cannot create"):
        evaluate_checkpoint(EvalConfig(str(write_checkpoint()), out=str(tmp_path / "file" / "a")))
