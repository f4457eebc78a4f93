"""Checkpoints: what is written comes back, safely, or is an error."""

from pathlib import Path

import pytest
import torch

from simclr_ext.options.errors import CheckpointError
from simclr_ext.trainer.config import ModelConfig, TrainConfig
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.model.simclr import SimCLR

CONFIG = TrainConfig(model=ModelConfig(width=16, blocks=(1, 1), projection_dim=8)).resolve(3, 8, 8)


def test_round_trip(tmp_path: Path) -> None:
    model = SimCLR(CONFIG.model, channels=3)
    model.to(memory_format=torch.channels_last)  # as CONFIG says: the layout decides the last bits
    images = torch.rand(6, 3, 16, 16)
    model(images)  # moves the batch-norm statistics, which must be saved too
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


class Payload:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 3, "config": Payload()}, "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil.pt: not a readable checkpoint"):
        load_checkpoint("evil.pt")
    assert not Path("executed").exists()


def test_other_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(CheckpointError, match=r"x.pt: no such file"):
        load_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"x.pt: not a readable checkpoint"):
        load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(CheckpointError, match="format must be 3, got 99"):
        load_checkpoint(path)
    torch.save(torch.zeros(2), path)
    with pytest.raises(CheckpointError, match="got 'Tensor'"):
        load_checkpoint(path)
