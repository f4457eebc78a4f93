"""The finetune command: the trained weights, the labels, and the files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from simclr_ext.cli import main
from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.api import finetune_checkpoint
from simclr_ext.trainer.config.commands import FinetuneConfig, SgdConfig
from simclr_ext.trainer.model.checkpoint import load_checkpoint

SHORT = SgdConfig(epochs=2, batch_size=8, learning_rate=0.5)


def test_all_weights_are_trained(write_checkpoint: Callable[..., Path]) -> None:
    path = write_checkpoint()
    result = finetune_checkpoint(FinetuneConfig(str(path), labels=0.5, sgd=SHORT, threads=1))
    assert (result.images, result.folder) == (12, path.parent / "finetune-tiny-0.5")
    weights = torch.load(result.folder / "classifier.pt", weights_only=True)
    before = load_checkpoint(path).model.encoder.state_dict()
    trained = {name.removeprefix("0."): value for name, value in weights.items()}
    changed = [not torch.equal(trained[name], value) for name, value in before.items()]
    assert all(changed)  # weights, and statistics of batch norms
    contents = json.loads((result.folder / "finetune.json").read_text())
    assert contents["labeled_images"] == 12
    assert contents["test_accuracy"]["draws"] == list(result.accuracy.draws)
    assert "fine-tuned trained encoder" in (result.folder / "finetune.md").read_text()


def test_repetitions_are_independent_and_reproducible(
    write_checkpoint: Callable[..., Path], write_npz: Callable[..., Path]
) -> None:
    random = np.random.default_rng(0)
    test = {
        "test_images": random.integers(0, 256, (200, 10, 12, 3), dtype=np.uint8),
        "test_labels": random.integers(0, 3, 200),
    }
    path = write_checkpoint(data=str(write_npz(**test)))
    several = finetune_checkpoint(FinetuneConfig(str(path), labels=0.3, seeds=3, sgd=SHORT))
    assert "± is the standard deviation over 3 draws" in several.table
    single = [
        finetune_checkpoint(FinetuneConfig(str(path), labels=0.3, seed=seed, sgd=SHORT))
        for seed in range(3)
    ]
    assert several.accuracy.draws == tuple(result.accuracy.mean for result in single)
    assert len(set(several.accuracy.draws)) > 1


def test_epochs_are_the_papers(
    write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = []

    def record(*arguments: object, **_: object) -> None:
        epochs.extend(a.epochs for a in arguments if isinstance(a, SgdConfig))

    monkeypatch.setattr("simclr_ext.trainer.commands.finetune.train_classifier", record)
    path = str(write_checkpoint())
    for labels in (0.01, 0.1, 1.0):
        finetune_checkpoint(FinetuneConfig(path, labels=labels))
    assert epochs == [60, 30, 30]


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match=r"labels must be a share in \(0, 1\], got 0"):
        FinetuneConfig("x", labels=0.0)
    with pytest.raises(ConfigError, match=r"sgd\.epochs must be null or at least 1"):
        SgdConfig(epochs=0)


def test_command(write_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--labels", "0.5", "--sgd.epochs", "1", "--scratch", "true"]
    assert main(["finetune", str(write_checkpoint()), *options]) == 0
    assert "fine-tuned untrained encoder" in capsys.readouterr().out
