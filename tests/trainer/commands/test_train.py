"""Whole runs, small ones: every file, the loss, reproducibility, own data, errors."""

import csv
import dataclasses
import io
import json
import os
import signal
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from simclr_ext import BackendUnavailableError, cli
from simclr_ext.options import extras
from simclr_ext.options.errors import (
    ConfigError,
    DataError,
    DeviceError,
    RunFolderError,
    WorkerError,
)
from simclr_ext.trainer import (
    AugmentConfig,
    MissingExtraError,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
    resume,
    train,
)
from simclr_ext.trainer.model.checkpoint import load_checkpoint
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.optional import EvaluationWarning
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.run_folder import RunFolder
from simclr_ext.trainer.views import batches
from tests.trainer.helpers import write_folder

SMALL = TrainConfig(
    image_size=8,
    epochs=3,
    batch_size=128,
    threads=1,
    augment=AugmentConfig(crop_area=(0.3, 1.0)),
    model=ModelConfig(width=8, blocks=(1, 1), projection_dim=16),
    optim=OptimConfig(warmup_epochs=1),
)
SIZES = {"train": 24, "test": 9}  # numbers of images that write_npz writes
ROWS = ["raw pixels", "untrained encoder", "trained encoder"]
SCORES = ["linear_few", "knn_few", "linear_all", "knn_all"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    out = tmp_path_factory.mktemp("runs") / "a" / "digits"
    return train(dataclasses.replace(SMALL, out=str(out)))


def test_run_folder_holds_every_file(result: TrainResult) -> None:
    names = {path.name for path in result.folder.iterdir()}
    (events,) = (name for name in names if name.startswith("events.out.tfevents"))
    pictures = {"pairs.png", "loss.png", "tsne.png"}
    texts = {"config.yaml", "images.csv", "metrics.csv", "evaluation.json"}
    checkpoints = {"checkpoint.pt", "checkpoint-previous.pt", "best.pt"}
    assert names - {".lock"} == pictures | texts | checkpoints | {events}
    for name in pictures:
        assert (result.folder / name).read_bytes().startswith(b"\x89PNG")


def test_config_file_is_the_resolved_configuration(result: TrainResult) -> None:
    written = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert TrainConfig.from_dict(written) == result.config.options
    assert result.config.augment.flip_probability == 0


def test_loss_goes_down_and_is_logged(result: TrainResult) -> None:
    losses = [epoch.loss for epoch in result.epochs]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    with (result.folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == losses
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    board = EventAccumulator(str(result.folder)).Reload()
    assert [event.value for event in board.Scalars("train/loss")] == pytest.approx(losses)
    (event,) = board.Scalars("test/linear_all/trained_encoder")
    assert event.value == pytest.approx(result.scores["trained encoder"].linear_all.mean)


def test_tensorboard_shows_the_pictures_of_the_folder(result: TrainResult) -> None:
    board = EventAccumulator(str(result.folder), {"images": 0}).Reload()
    assert set(board.Tags()["images"]) == {"pairs", "tsne"}
    for name, step in {"pairs": 0, "tsne": result.epochs[-1].step}.items():
        (event,) = board.Images(name)
        with (
            Image.open(result.folder / f"{name}.png") as drawn,
            Image.open(io.BytesIO(event.encoded_image_string)) as shown,
        ):
            assert np.array_equal(drawn.convert("RGB"), shown)
        assert event.step == step


def test_checkpoint_is_the_trained_model(result: TrainResult) -> None:
    checkpoint = load_checkpoint(result.folder / "checkpoint.pt")
    assert (checkpoint.config, checkpoint.epoch) == (result.config, 3)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(checkpoint.model(images)[1], result.model(images)[1])
    untrained = build_model(result.config).eval()
    assert not torch.allclose(untrained(images)[1], result.model(images)[1])


def test_scores_are_written_and_printed(result: TrainResult) -> None:
    contents = json.loads((result.folder / "evaluation.json").read_text())["test_accuracy"]
    assert list(contents) == list(result.scores) == ROWS
    for row in ROWS:
        for name in SCORES:
            accuracy = getattr(result.scores[row], name)
            assert contents[row][name]["mean"] == accuracy.mean
            assert contents[row][name]["draws"] == list(accuracy.draws)
            assert 0.2 < accuracy.mean <= 1  # chance is 0.1
        assert row in result.table
    # Logistic regression on scikit-learn's digits is known to get about 97 %.
    assert 0.94 < result.scores["raw pixels"].linear_all.mean < 0.99


def test_equal_runs_are_equal_bit_by_bit(result: TrainResult, tmp_path: Path) -> None:
    torch.rand(3)
    before = torch.get_rng_state()
    again = train(dataclasses.replace(SMALL, out=str(tmp_path / "again")))
    assert torch.equal(torch.get_rng_state(), before)
    assert [epoch.loss for epoch in again.epochs] == [epoch.loss for epoch in result.epochs]
    assert again.scores == result.scores
    theirs = result.model.state_dict()
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


def test_own_data_in_color(write_npz: Callable[..., Path], tmp_path: Path) -> None:
    path = write_npz("insects")
    config = dataclasses.replace(SMALL, data=str(path), out=str(tmp_path / "run"), batch_size=12)
    result = train(dataclasses.replace(config, image_size=None))
    assert (result.config.side, result.config.augment.flip_probability) == (16, 0.5)
    assert load_checkpoint(result.folder / "checkpoint.pt").config.channels == 3
    h = encode(result.model.encoder, torch.zeros(2, 3, 10, 12, dtype=torch.uint8), 16)
    assert h.shape == (2, 16)


def test_default_run_folder_is_named_after_the_data(
    write_npz: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_npz("insects")
    result = train(dataclasses.replace(SMALL, data=str(path), batch_size=12))
    assert result.folder.parent == Path("runs")
    name, day, time = result.folder.name.split("-")
    assert (name, len(day), len(time)) == ("insects", 8, 6)


def test_two_runs_of_one_second_have_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls(2025, 1, 1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simclr_ext.trainer.training.run_folder.datetime", Stopped)
    folders = [RunFolder.choose(SMALL) for _ in range(3)]
    for folder in folders:
        with folder.created():
            (folder.path / "mine").touch()
    assert [folder.path.name for folder in folders] == [
        f"digits-20250101-000000{number}" for number in ("", "-2", "-3")
    ]


def test_two_runs_with_the_same_out_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simclr_ext.trainer.lock._WAIT", 0.0)
    config = dataclasses.replace(SMALL, out=str(tmp_path / "run"))
    first, second = RunFolder.choose(config), RunFolder.choose(config)
    with first.created():
        with pytest.raises(RunFolderError, match="another process is at work"):
            second.created().__enter__()
        (first.path / "config.yaml").touch()
    with pytest.raises(RunFolderError, match="exists and is not empty"):
        second.created().__enter__()


def test_a_taken_run_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_work(*_: object) -> None:
        raise AssertionError("the folder must be checked first")

    monkeypatch.setattr("simclr_ext.trainer.commands.train.open_data", no_work)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="exists and is not empty"):
        train(dataclasses.replace(SMALL, out=str(tmp_path)))
    with pytest.raises(RunFolderError, match="is a file, not a folder"):
        train(dataclasses.replace(SMALL, out=str(tmp_path / "notes.txt")))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"out: cannot create .*run"):
        train(dataclasses.replace(SMALL, out=str(tmp_path / "file" / "run")))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": "gone.npz"}, DataError, "gone.npz: no such file"),
        ({"batch_size": 1438}, DataError, "batch_size must be at most the 1437 training images"),
        ({"device": "abacus"}, DeviceError, "device must be .*, got 'abacus'"),
        ({"device": "meta"}, DeviceError, "device 'meta' cannot be used"),
    ],
    ids=["data", "batch", "device", "meta"],
)
def test_wrong_input_leaves_no_folder(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(error, match=message):
        train(dataclasses.replace(SMALL, out=str(out), **changes))  # type: ignore[arg-type]
    assert not out.exists()


def test_a_loss_that_cannot_run_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise BackendUnavailableError("no compiler")

    monkeypatch.setattr("simclr_ext.NTXentLoss.forward", unavailable)
    with pytest.raises(BackendUnavailableError, match="no compiler"):
        train(dataclasses.replace(SMALL, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::simclr_ext.trainer.training.health.TrainingWarning")
def test_checkpoints_that_are_kept(tmp_path: Path) -> None:
    monitor = MonitorConfig(keep_epochs=2, checkpoint_epochs=3, knn_every=1)
    config = dataclasses.replace(
        SMALL, out=str(tmp_path / "run"), epochs=4, monitor=monitor, evaluate=False
    )
    result = train(config)
    assert str(result) == f"run folder: {result.folder}"
    accuracies = [epoch.knn_accuracy for epoch in result.epochs]
    assert all(accuracy is not None and 0.2 < accuracy <= 1 for accuracy in accuracies)
    found = {path.name: load_checkpoint(path).epoch for path in result.folder.glob("*.pt")}
    best = accuracies.index(max(accuracies)) + 1  # type: ignore[type-var]
    kept = {"best.pt": best, "epoch-0002.pt": 2, "epoch-0004.pt": 4}
    assert found == {"checkpoint.pt": 4, "checkpoint-previous.pt": 3, **kept}


def test_a_folder_of_files_of_many_sizes(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", sizes=[(40, 30), (33, 50)])
    config = dataclasses.replace(
        SMALL, data=str(tmp_path / "pets"), out=str(tmp_path / "run"), image_size=16,
        batch_size=8, epochs=2, workers=0,
    )  # fmt: skip
    result = train(config)
    assert set(result.scores) == set(ROWS)
    assert (result.folder / "pairs.png").exists()


@pytest.fixture
def pets(tmp_path: Path) -> TrainConfig:
    """A run on files of two sizes, decoded by a worker process."""
    write_folder(tmp_path / "pets", sizes=[(40, 30), (33, 50)])
    return dataclasses.replace(
        SMALL, data=str(tmp_path / "pets"), out=str(tmp_path / "run"), image_size=16,
        batch_size=12, epochs=2, workers=1, monitor=MonitorConfig(knn_every=0), evaluate=False,
    )  # fmt: skip


def test_a_broken_file_in_a_worker_is_one_short_line(pets: TrainConfig) -> None:
    image = Path(pets.data) / "train" / "cat" / "3.png"
    image.write_bytes(image.read_bytes()[:-40])
    with pytest.raises(DataError) as error:
        train(pets)
    text = str(error.value)
    assert text.startswith(f"{image}: not a readable image (")
    assert "\n" not in text
    reason, _, remedy = text.partition("; ")
    assert len(reason) < len(str(image)) + 100
    assert remedy.startswith("saved after step ")


def test_a_killed_worker_is_one_sentence(
    pets: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, crops = os.getpid(), batches._CropPairs.__getitem__

    def killed(self: batches._CropPairs, index: int) -> torch.Tensor | DataError:
        if self.epoch == 1 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return crops(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(batches._CropPairs, "__getitem__", killed)
        with pytest.raises(
            WorkerError, match=r"was killed.* fewer workers.*; then resume: simclr-"
        ):
            train(pets)
    assert len(resume(str(pets.out)).epochs) == 2


def test_a_folder_larger_than_the_memory_is_evaluated_without_raw_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simclr_ext.trainer.data.dataset._MEMORY_LIMIT", 1000)
    write_folder(tmp_path / "pets", sizes=[(40, 30), (33, 50)])
    config = dataclasses.replace(
        SMALL, data=str(tmp_path / "pets"), out=str(tmp_path / "run"), image_size=16,
        batch_size=8, epochs=2, workers=0,
    )  # fmt: skip
    with pytest.warns(EvaluationWarning, match="raw pixels are left out: pets: 24 images of 16"):
        result = train(config)
    assert list(result.scores) == ["untrained encoder", "trained encoder"]
    assert (result.folder / "tsne.png").exists()
    assert result.epochs[-1].knn_accuracy is not None


@pytest.mark.filterwarnings("ignore::simclr_ext.trainer.training.health.TrainingWarning")
def test_blank_images_have_results_but_no_map(
    write_npz: Callable[..., Path], tmp_path: Path
) -> None:
    blank = {f"{part}_images": np.zeros((n, 8, 8), np.uint8) for part, n in SIZES.items()}
    data, out = str(write_npz("blank", **blank)), str(tmp_path / "run")
    config = dataclasses.replace(SMALL, data=data, out=out, batch_size=8)
    with pytest.warns(EvaluationWarning, match=r"tsne.png is left out: .* differ.* got 1 of 9"):
        result = train(config)
    assert set(result.scores) == set(ROWS)
    names = {path.name for path in result.folder.iterdir()}
    assert "evaluation.json" in names
    assert "tsne.png" not in names


def test_one_class_is_trained_on_and_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "pets", sizes=[(8, 8)], classes=["cat"], per_class=10)
    config = dataclasses.replace(
        SMALL, data=str(tmp_path / "pets"), out=str(tmp_path / "run"), batch_size=8
    )
    result = train(config)
    assert "no labels to evaluate with" in capsys.readouterr().err
    assert result.scores == {}
    assert str(result) == f"run folder: {result.folder}"
    assert (result.folder / "tsne.png").exists()


@pytest.mark.parametrize(
    ("data", "name"),
    [("my photos", "my-photos"), ("photos/**/*.jpg", "images"), ("hf:user/pets", "pets")],
)
def test_the_run_folder_is_named_after_the_data(data: str, name: str) -> None:
    folder = RunFolder.choose(dataclasses.replace(SMALL, data=data, out=None)).path.name
    assert folder.startswith(f"{name}-20")


def test_two_images_are_trained_on(write_npz: Callable[..., Path], tmp_path: Path) -> None:
    labels = {"train_labels": np.arange(2), "test_labels": np.zeros(1, int)}
    images = {
        f"{part}_images": np.zeros((n, 8, 8), np.uint8) for part, n in (("train", 2), ("test", 1))
    }
    data, out = str(write_npz("two", **labels, **images)), str(tmp_path / "run")
    with pytest.warns(EvaluationWarning) as caught:
        train(dataclasses.replace(SMALL, data=data, out=out, batch_size=2))
    texts = [str(warning.message) for warning in caught]
    assert any("on held-out images on the way is left out: one training" in t for t in texts)
    assert any("tsne.png is left out: t-SNE needs 3" in text for text in texts)


def test_pictures_and_probes_that_fail_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of a\nlibrary")

    recorder = "simclr_ext.trainer.training.recorder"
    for name in ("plot_pairs", "plot_loss", "plot_tsne"):
        monkeypatch.setattr(f"{recorder}.{name}", fail)
    monkeypatch.setattr("simclr_ext.trainer.training.held_out.HeldOut._accuracy", fail)
    monkeypatch.setattr("simclr_ext.trainer.probes.comparison.evaluate", fail)
    with pytest.warns(EvaluationWarning) as caught:
        result = train(dataclasses.replace(SMALL, out=str(tmp_path / "run")))
    assert {str(warning.message) for warning in caught} == {
        f"{what} is left out: ZeroDivisionError: of a library"
        for what in (
            "pairs.png", "loss.png", "tsne.png", "the k-NN accuracy of an epoch",
            *(f"the evaluation of {name}" for name in ROWS),
        )
    }  # fmt: skip
    assert len(result.epochs) == SMALL.epochs
    assert not (result.folder / "best.pt").exists()


def test_results_are_reported_before_the_map_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simclr_ext.trainer.training.recorder.plot_tsne", killed)
    options = ["--data=digits", "--epochs=1", "--optim.warmup_epochs=0", "--model.width=4"]
    assert cli.main(["train", "--out", str(tmp_path / "run"), *options]) == 130
    out = capsys.readouterr().out
    assert "trained encoder" in out
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_an_encoder_that_cannot_take_the_images(tmp_path: Path) -> None:
    model = ModelConfig(encoder="torchvision:vit_b_32")
    with pytest.raises(ConfigError, match="vit_b_32 does not take images of 8 x 8"):
        train(dataclasses.replace(SMALL, out=str(tmp_path / "run"), model=model))
    assert not (tmp_path / "run").exists()


def test_threads_are_set_for_the_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMCLR_EXT_FORCE_THREADS", "1")  # the machine may have one processor
    seen = []

    def stop(*_: object) -> None:
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr("simclr_ext.trainer.training.recorder.plot_pairs", stop)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(SMALL, out=str(tmp_path / "run"), threads=2))
    assert (seen, torch.get_num_threads()) == ([2], 1)


def test_missing_packages_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> object:
        return None if name in ("sklearn", "tqdm") else object()

    monkeypatch.setattr(extras, "find_spec", find_spec)
    with pytest.raises(MissingExtraError) as error:
        train(SMALL)
    assert str(error.value) == (
        "the trainer needs scikit-learn, tqdm: pip install 'simclr-ext[trainer]'"
    )
