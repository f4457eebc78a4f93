"""A flat folder of images without labels, through every command; broken images on the way."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from simclr_ext.cli import main
from simclr_ext.options.errors import CheckpointError, DataError, MissingArgumentError
from simclr_ext.trainer import resume, train
from simclr_ext.trainer.config import (
    ImagesConfig,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    TrainConfig,
)

TINY = TrainConfig(
    image_size=8,
    epochs=2,
    batch_size=8,
    workers=0,
    threads=1,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
    optim=OptimConfig(warmup_epochs=0),
    monitor=MonitorConfig(checkpoint_steps=1),
)
OPTIONS = [
    "--image_size", "8", "--epochs", "2", "--batch_size", "8", "--workers", "0", "--threads", "1",
    "--model.width", "4", "--model.blocks", "1,1", "--model.projection_dim", "8",
]  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(20):
        pixels = random.integers(0, 256, (9 + number % 3, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def test_every_command_on_a_flat_folder(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the path is relative
    assert main(["train", "--data", "photos", "--out", "run", *OPTIONS]) == 0
    printed = capsys.readouterr()
    assert "photos: 20 training images, no labels to evaluate with" in printed.err
    assert printed.out == "run folder: run\n"
    with (tmp_path / "run" / "images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[3] == {"id": "03.png", "part": "train", "class": ""}
    assert (tmp_path / "run" / "tsne.png").exists()
    assert not (tmp_path / "run" / "evaluation.json").exists()

    monkeypatch.chdir(photos)  # from anywhere
    run = str(tmp_path / "run")
    assert main(["train", "--resume", run, "--epochs", "3"]) == 0
    assert main(["embed", run]) == 0
    ids = np.load(tmp_path / "run" / "embed-photos" / "images-ids.npy")
    assert ids.tolist() == [f"{number:02}.png" for number in range(20)]
    assert main(["pages", run]) == 0
    assert main(["neighbors", run, "--queries", "03.png"]) == 0
    with (tmp_path / "run" / "neighbors-03" / "neighbors.csv").open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert (first["query"], first["similarity"]) == ("03.png", "1.0000")
    assert main(["export", run]) == 0
    capsys.readouterr()
    for command in ("eval", "finetune"):
        assert main([command, run]) == 2
        assert "photos has no labels, or a single class" in capsys.readouterr().err


def test_a_broken_image_ends_the_run_and_nothing_is_lost(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(TINY, data=str(photos), out=str(tmp_path / "run"), evaluate=False)
    for number in (5, 7, 11):  # an epoch leaves out four images
        path = photos / f"{number:02}.png"
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"\.png: not a readable .*; saved after step") as error:
        train(config)
    assert f"then resume: simclr-ext train --resume {tmp_path}/run" in str(error.value)
    resumed = resume(tmp_path / "run", on_broken="skip")
    assert [epoch.epoch for epoch in resumed.epochs] == [1, 2]
    assert "07.png" in (tmp_path / "run" / "broken.txt").read_text()
    assert resumed.config.images.on_broken == "skip"
    skipped = dataclasses.replace(config, out=None, images=ImagesConfig(on_broken="skip"))
    again = [
        train(dataclasses.replace(skipped, out=str(tmp_path / name))).epochs[-1].loss
        for name in ("one", "two")
    ]
    assert again[0] == again[1]
    assert main(["check", str(photos)]) == 1
    assert "07.png: not a readable image" in capsys.readouterr().out


def test_broken_images_before_the_first_step_are_told_like_later_ones(
    photos: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(TINY, data=str(photos), out=str(tmp_path / "run"), evaluate=False)
    contents = {path: path.read_bytes() for path in photos.iterdir()}
    for path, content in contents.items():
        path.write_bytes(content[:200])
    with pytest.raises(DataError, match=r"saved after step 0: repair the file"):
        train(config)
    for path, content in contents.items():
        path.write_bytes(content)
    assert [epoch.epoch for epoch in resume(tmp_path / "run").epochs] == [1, 2]


def test_too_many_broken_images_are_another_run(photos: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    train(dataclasses.replace(TINY, data=str(photos), out=out, evaluate=False))
    for number in range(6):
        (photos / f"{number:02}.png").write_bytes(b"no image")
    with pytest.raises(CheckpointError, match="has 20 training images, the data set now has 14"):
        resume(out, on_broken="skip")


def test_images_from_python_are_trained_on_and_resumed(tmp_path: Path) -> None:
    labels = torch.arange(24) % 2
    images = (100 * labels[:, None, None, None] + torch.randint(50, (24, 3, 8, 8))).byte()
    parts = TensorDataset(images[:16], labels[:16]), TensorDataset(images[16:], labels[16:])
    result = train(dataclasses.replace(TINY, out=str(tmp_path / "run")), data=parts)
    assert list(result.scores) == ["raw pixels", "untrained encoder", "trained encoder"]
    assert result.config.data == "custom"
    with pytest.raises(MissingArgumentError, match="by the argument data"):
        resume(tmp_path / "run")
    assert len(resume(tmp_path / "run", epochs=3, data=parts).epochs) == 3
