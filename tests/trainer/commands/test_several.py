"""`train` and `resume` from Python, in processes that have initialized `torch.distributed`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simclr_ext.options.errors import DataError, PeerError
from simclr_ext.trainer import (
    Callback,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
    resume,
    train,
)
from simclr_ext.trainer.model.checkpoint import load_checkpoint
from simclr_ext.trainer.training.state import Training
from tests.trainer.helpers import write_folder

Run = Callable[..., list[Any]]
CONFIG = TrainConfig(
    image_size=8,
    epochs=2,
    batch_size=359,
    threads=1,
    evaluate=False,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
    optim=OptimConfig(learning_rate=0.01, warmup_epochs=1),
    monitor=MonitorConfig(knn_every=1, metrics_every=2, loggers=("csv",)),
)


class Stop(Callback):
    """Ends the training after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, training: Training) -> None:
        training.stop = training.step == self.step


class Fail(Callback):
    """Fails after a step."""

    def on_step(self, training: Training) -> None:
        if training.step == 2:
            raise ValueError("of the callback")


def trained(
    rank: int, group: Any, config: TrainConfig, callbacks: list[Callback]
) -> dict[str, Any]:
    result = train(config, callbacks=callbacks)
    weights = [value.double().sum().item() for value in result.model.state_dict().values()]
    return {"folder": result.folder, "epochs": result.epochs, "weights": weights}


def resumed(rank: int, group: Any, folder: Path) -> list[int]:
    return [epoch.step for epoch in resume(folder).epochs]


def step_of(folder: Path) -> int:
    state = load_checkpoint(folder / "checkpoint.pt").training
    assert state is not None
    return int(state["step"])


def test_the_result_is_the_same_on_all_ranks(two: Run, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, out=str(tmp_path / "run"))
    first, second = two(trained, 2, config, [])
    assert first == second
    assert first["folder"] == tmp_path / "run"
    assert [epoch.step for epoch in first["epochs"]] == [4, 8]
    assert all(epoch.knn_accuracy is not None for epoch in first["epochs"])


def test_a_callback_of_the_first_ends_all_and_three_resume(
    two: Run, three: Run, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, out=str(tmp_path / "run"))
    first, second = two(trained, 2, config, [Stop(5)])
    assert first == second
    assert step_of(tmp_path / "run") == 5
    assert three(resumed, 3, tmp_path / "run") == [[4, 8]] * 3


def test_a_callback_that_fails_ends_all(two: Run, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, out=str(tmp_path / "run"))
    first, second = two(trained, 2, config, [Fail()])
    assert isinstance(first, ValueError)
    assert isinstance(second, PeerError)
    assert str(second) == "rank 0: of the callback"


def test_a_broken_image_of_one_rank_saves_first(two: Run, tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", [(20, 16), (16, 24)])
    paths = sorted((tmp_path / "pets" / "train").rglob("*.png"))
    whole = [path.read_bytes() for path in paths]
    for path, content in zip(paths[6:], whole[6:], strict=True):
        path.write_bytes(content[:-40])
    monitor = dataclasses.replace(CONFIG.monitor, knn_every=0)
    config = dataclasses.replace(
        CONFIG, data=str(tmp_path / "pets"), batch_size=2, workers=0, monitor=monitor
    )
    config = dataclasses.replace(config, out=str(tmp_path / "run"))
    errors = two(trained, 2, config, [])
    (own,) = (error for error in errors if type(error) is DataError)
    (other,) = (error for error in errors if isinstance(error, PeerError))
    assert ".png: not a readable image" in str(own)
    assert f"saved after step {step_of(tmp_path / 'run')}: repair the file" in str(own)
    assert other.kind is DataError
    for path, content in zip(paths, whole, strict=True):
        path.write_bytes(content)
    assert two(resumed, 2, tmp_path / "run") == [[6, 12]] * 2


def test_a_folder_in_use_is_an_error_of_all(two: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    first, second = two(trained, 2, dataclasses.replace(CONFIG, out=str(tmp_path)), [])
    assert "is not empty; runs are never overwritten" in str(first)
    assert str(second) == f"rank 0: {first}"
    with pytest.raises(type(first), match="never overwritten"):
        train(dataclasses.replace(CONFIG, out=str(tmp_path)))
