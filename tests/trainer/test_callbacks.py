"""Callbacks see the run, and may end it; the example in the docs works unchanged."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import simclr_ext.trainer
from simclr_ext.trainer import Callback, ModelConfig, MonitorConfig, TrainConfig, resume, train
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.state import Training

GUIDE = Path(__file__).parents[2] / "docs" / "python.md"
TINY = TrainConfig(
    epochs=3,
    batch_size=512,
    image_size=8,
    evaluate=False,
    threads=1,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
)
STEPS = 2  # of 1,437 images


class Diary(Callback):
    """Records its calls."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int | str]] = []

    def on_step(self, training: Training) -> None:
        if training.step == 1:  # is measured
            assert set(training.latest) == {"loss", "accuracy"}
        self.entries.append(("step", training.step))

    def on_epoch(self, training: Training) -> None:
        assert training.step == training.epochs[-1].step == STEPS * len(training.epochs)
        self.entries.append(("epoch", len(training.epochs)))

    def on_checkpoint(self, training: Training, path: Path) -> None:
        assert path.stat().st_size > 1000
        self.entries.append(("checkpoint", path.name))


class StopAt(Callback):
    """Ends the training after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, training: Training) -> None:
        training.stop = training.step == self.step


def run(out: Path, *callbacks: Callback, **options: Any) -> TrainResult:
    config = dataclasses.replace(TINY, out=str(out), **options)
    return train(config, callbacks=callbacks)


def test_what_is_called_and_when(tmp_path: Path) -> None:
    diary = Diary()
    monitor = MonitorConfig(knn_every=3, keep_epochs=2, checkpoint_steps=1, checkpoint_epochs=3)
    run(tmp_path / "run", diary, monitor=monitor)
    assert diary.entries == [
        ("step", 1),
        ("checkpoint", "checkpoint.pt"),
        ("step", 2),
        ("epoch", 1),
        ("checkpoint", "checkpoint.pt"),
        ("step", 3),
        ("checkpoint", "checkpoint.pt"),
        ("checkpoint", "epoch-0002.pt"),
        ("step", 4),
        ("epoch", 2),
        ("checkpoint", "checkpoint.pt"),
        ("step", 5),
        ("checkpoint", "checkpoint.pt"),
        ("checkpoint", "best.pt"),
        ("step", 6),
        ("epoch", 3),
        ("checkpoint", "checkpoint.pt"),
    ]


def test_knn_is_measured_when_an_epoch_ends(tmp_path: Path) -> None:
    accuracies = []

    class Watch(Callback):
        def on_epoch(self, training: Training) -> None:
            accuracies.append(training.epochs[-1].knn_accuracy)

    run(tmp_path / "run", Watch(), epochs=2, monitor=MonitorConfig(knn_every=1))
    assert all(0 < accuracy <= 1 for accuracy in accuracies)
    assert len(accuracies) == 2


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_that_is_ended_early_is_saved_and_evaluated(tmp_path: Path, step: int) -> None:
    diary, options = Diary(), {"evaluate": True, "monitor": MonitorConfig(checkpoint_epochs=9)}
    result = run(tmp_path / "run", StopAt(step), diary, **options)
    assert diary.entries[-1] == ("checkpoint", "checkpoint.pt")
    assert [entry for entry in diary.entries if entry[0] == "step"][-1] == ("step", step)
    assert len(result.epochs) == step // STEPS
    assert set(result.scores) == {"raw pixels", "untrained encoder", "trained encoder"}
    assert (result.folder / "loss.png").exists()


def test_a_run_ended_early_continues_to_the_same_bits(tmp_path: Path) -> None:
    run(tmp_path / "parts", StopAt(3))
    parts = resume(tmp_path / "parts", callbacks=[diary := Diary()])
    whole = run(tmp_path / "whole")
    assert [entry for entry in diary.entries if entry[0] == "step"] == [
        ("step", step) for step in (4, 5, 6)
    ]
    for name, value in whole.model.state_dict().items():
        assert value.equal(parts.model.state_dict()[name]), name


def test_an_error_of_a_callback_ends_the_run(tmp_path: Path) -> None:
    class Broken(Callback):
        def on_epoch(self, training: Training) -> None:
            raise RuntimeError("the server is gone")

    with pytest.raises(RuntimeError, match="the server is gone"):
        run(tmp_path / "run", Broken())


def test_the_example_of_the_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if "Callback" in block)
    results: list[TrainResult] = []

    def train_tiny(config: TrainConfig, callbacks: list[Callback]) -> None:
        assert config.epochs == 200
        frozen = dataclasses.replace(TINY.optim, learning_rate=1e-30, warmup_epochs=0)
        options = {"epochs": 30, "optim": frozen, "monitor": MonitorConfig(knn_every=0)}
        results.append(run(tmp_path / "run", *callbacks, **options))

    monkeypatch.setattr(simclr_ext.trainer, "train", train_tiny)
    exec(compile(example, str(GUIDE), "exec"), {"__name__": "example"})
    losses = [epoch.loss for epoch in results[0].epochs]
    assert len(losses) < 30  # the model does not learn, so the training ends early
    assert losses.index(min(losses)) == len(losses) - 11
    lines = (results[0].folder / "steps.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert {"step", "loss", "accuracy"} in [set(step) for step in steps]
    assert [step["step"] for step in steps] == [n + 1 for n in range(STEPS * len(losses))]
    assert capsys.readouterr().out == f"{results[0].folder} has {len(steps)} steps\n"
