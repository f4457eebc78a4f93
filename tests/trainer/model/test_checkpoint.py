"""Checkpoints: they are read as they were written, safely, or raise an error."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simclr_ext.options.errors import CheckpointError
from simclr_ext.trainer.config import ModelConfig, TrainConfig
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.model.simclr import SimCLR

CONFIG = TrainConfig(model=ModelConfig(width=16, blocks=(1, 1), projection_dim=8)).resolve(3, 8, 8)


def test_round_trip(tmp_path: Path) -> None:
    model = SimCLR(CONFIG.model, channels=3)
    model.to(memory_format=torch.channels_last)  # as in CONFIG: the last bits depend on the format
    images = torch.rand(6, 3, 16, 16)
    model(images)  # changes the batch-norm statistics, which must be saved too
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, model, CONFIG, epoch=7)
    loaded = load_checkpoint(path)
    assert (loaded.config, loaded.epoch) == (CONFIG, 7)
    assert loaded.training is None
    assert not loaded.model.training
    saved = model.state_dict()
    assert loaded.model.state_dict().keys() == saved.keys()
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, saved[name]), name
        assert value.stride() == saved[name].stride(), name
    for ours, theirs in zip(loaded.model(images), model.eval()(images), strict=True):
        assert torch.equal(ours, theirs)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_an_interrupted_write_leaves_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    model = SimCLR(CONFIG.model, channels=3)
    save_checkpoint(path, model, CONFIG, epoch=1)

    def interrupted(contents: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, model, CONFIG, epoch=2)
    assert load_checkpoint(path).epoch == 1


def save(contents: object, path: Path) -> None:
    """Write what torch.save writes, and its digest."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


class Payload:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save({"format": 4, "config": Payload()}, Path("evil.pt"))
    with pytest.raises(CheckpointError, match=r"evil.pt: not a readable checkpoint"):
        load_checkpoint("evil.pt")
    assert not Path("executed").exists()


def test_other_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(CheckpointError, match=r"x.pt: no such run folder or checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"x.pt: not a readable checkpoint"):
        load_checkpoint(path)
    save({"format": 99}, path)
    with pytest.raises(CheckpointError, match="format must be 4, got 99"):
        load_checkpoint(path)
    save(torch.zeros(2), path)
    with pytest.raises(CheckpointError, match="got 'Tensor'"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("encoder"), "'encoder' is missing"),
        (lambda c: c["config"].pop("channels"), "channels"),
        (lambda c: c["config"].update(batch_size=0), "batch_size must be at least 2, got 0"),
        (lambda c: c["config"].update(model=None), "fits this package"),
        (lambda c: c["encoder"].update(wrong=c["encoder"].pop("conv1.weight")), "conv1.weight"),
        (lambda c: c["head"].clear(), "Missing key"),
    ],
    ids=["no encoder", "no channels", "value", "type", "renamed", "no head"],
)
def test_odd_checkpoints_are_one_sentence(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, SimCLR(CONFIG.model, channels=3), CONFIG, epoch=1)
    contents = torch.load(path, weights_only=True)
    change(contents)
    save(contents, path)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: not a checkpoint") as error:
        load_checkpoint(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, SimCLR(CONFIG.model, channels=3), CONFIG, epoch=1)
    contents, random = path.read_bytes(), np.random.default_rng(0)
    ends = [0, len(contents) - 33, len(contents) - 32, len(contents) - 1]
    for place in [*ends, *random.integers(0, len(contents), 100)]:
        flipped = bytearray(contents)
        flipped[place] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"not a readable checkpoint .damaged"):
            load_checkpoint(path)
    path.write_bytes(contents)
    assert torch.load(path, weights_only=True)["epoch"] == 1  # the digest is ignored
