"""Weights that somebody made to do harm run no code, and take no memory beyond their size."""

import hashlib
import io
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_ext.options.errors import CheckpointError
from simclr_ext.trainer import load_encoder
from simclr_ext.trainer.config import ModelConfig, TrainConfig
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.model.hub import write_hub
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.model.weights import read_weights

CONFIG = TrainConfig(model=ModelConfig(width=4, blocks=(1,), projection_dim=8)).resolve(1, 8, 8)


def with_digest(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents + hashlib.sha256(contents).digest())
    return path


def changed(path: Path, change: Any) -> Path:
    """Write a checkpoint with other contents, and with the digest that these have."""
    save_checkpoint(path, build_model(CONFIG), CONFIG, 1)
    contents = torch.load(path, weights_only=True)
    change(contents)
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return with_digest(path, buffer.getvalue())


def test_compressed_weights_are_refused(tmp_path: Path) -> None:
    """torch.load would unpack 64 MiB of 64 kB."""
    plain, bomb = io.BytesIO(), io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(2**24)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    path = with_digest(tmp_path / "a.pt", bomb.getvalue())
    assert path.stat().st_size < 100_000
    assert torch.load(path, weights_only=True)["conv1.weight"].numel() == 2**24  # so it would
    with pytest.raises(CheckpointError, match=r"bytes that become .*: no file that PyTorch wrote"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"bytes that become .*: no file that PyTorch wrote"):
        read_weights(str(path))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_that_makes_memory_of_nothing_is_refused(tmp_path: Path, zipped: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"a": bytearray(8)}, buffer, _use_new_zipfile_serialization=zipped)
    path = with_digest(tmp_path / "a.pt", buffer.getvalue())
    for read in (load_checkpoint, lambda path: read_weights(str(path))):
        with pytest.raises(CheckpointError, match="it has more than tensors in it"):
            read(path)


@pytest.mark.parametrize(
    "model",
    [
        {"width": 2**20},
        {"blocks": [10**9]},
        {"blocks": [1] * 60},
        {"projection_hidden": 2**40},
        {"projection_depth": 10**9},
        {"encoder": "resnet50", "width_multiplier": 2**20},
        {"encoder": "torchvision:resnet18", "projection_hidden": 2**40},
    ],
    ids=lambda model: " ".join(model),
)
def test_a_network_larger_than_its_weights_takes_no_memory(
    model: dict[str, object], tmp_path: Path
) -> None:
    path = changed(tmp_path / "a.pt", lambda contents: contents["config"]["model"].update(model))
    with pytest.raises(CheckpointError, match=r"a\.pt: not a checkpoint that fits this package"):
        load_checkpoint(path)


def test_a_hub_folder_of_a_network_larger_than_its_weights(tmp_path: Path) -> None:
    write_hub(tmp_path / "hub", build_model(CONFIG).encoder, CONFIG)
    path = tmp_path / "hub" / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"width": 4', '"width": 1048576'))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not the weights of"):
        load_encoder(tmp_path / "hub")
    path.write_text(text.replace('"projection_dim": 8', '"projection_dim": 1099511627776'))
    assert load_encoder(tmp_path / "hub").dim == 4  # the head is not part of it
    path.write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"config\.json: not a configuration"):
        load_encoder(tmp_path / "hub")


def test_dictionaries_without_end_end(tmp_path: Path) -> None:
    path, endless = tmp_path / "a.pt", {}  # type: ignore[var-annotated]
    endless["a"] = endless
    torch.save(endless, path)
    with pytest.raises(CheckpointError, match="more than 32 dictionaries in each other"):
        read_weights(str(path))
    shared: dict[str, Any] = {"x": 1}
    for _ in range(30):
        shared = {"a": shared, "b": shared}  # 2^30 names
    torch.save(OrderedDict(shared), path)
    with pytest.raises(CheckpointError, match="more than 1,000,000 entries"):
        read_weights(str(path))


def test_tensors_that_are_not_plain(tmp_path: Path) -> None:
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="a is not a plain tensor"):
        read_weights(str(tmp_path / "a.pt"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["encoder", "head"])
def test_weights_that_are_not_finite_are_refused(part: str, value: float, tmp_path: Path) -> None:
    def spoil(contents: dict[str, Any]) -> None:
        next(iter(contents[part].values())).flatten()[0] = value

    with pytest.raises(CheckpointError, match=rf"\({part}\.[\w.]+ is not finite\)"):
        load_checkpoint(changed(tmp_path / "a.pt", spoil))


@pytest.mark.parametrize(
    "change",
    [{"epoch": "1"}, {"training": [1]}, {"config": 3}, {"encoder": None}, {"head": [1, 2]}],
    ids=str,
)
def test_contents_of_other_types(change: dict[str, Any], tmp_path: Path) -> None:
    path = changed(tmp_path / "a.pt", lambda contents: contents.update(change))
    with pytest.raises(CheckpointError, match=r"a\.pt: not a checkpoint that fits this package"):
        load_checkpoint(path)


def test_an_older_checkpoint_names_the_way_out(tmp_path: Path) -> None:
    path = changed(tmp_path / "a.pt", lambda contents: contents.update(format=3))
    with pytest.raises(CheckpointError, match=r"must be 4, got 3: use the version of simclr-ext"):
        load_checkpoint(path)
