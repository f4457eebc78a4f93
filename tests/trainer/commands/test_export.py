"""The export command: other programs can load its files, and wrong files are removed."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from torch import Tensor, nn
from torchvision.transforms import v2

from simclr_ext.cli import main
from simclr_ext.options import extras
from simclr_ext.options.errors import (
    CheckpointError,
    ConfigError,
    ExportError,
    MissingExtraError,
)
from simclr_ext.trainer import OptimConfig, TrainConfig, export_encoder, load_encoder, train
from simclr_ext.trainer.commands import export
from simclr_ext.trainer.config import ModelConfig
from simclr_ext.trainer.config.commands import ExportConfig
from simclr_ext.trainer.model.checkpoint import Checkpoint, load_checkpoint
from simclr_ext.trainer.model.initial import initialize
from simclr_ext.trainer.model.simclr import build_model

PARTS = {"train": 24, "test": 9}  # numbers of images that write_npz writes
HUB_FILES = {"config.json", "model.safetensors", "README.md"}


def test_every_format_computes_what_the_encoder_does(
    write_checkpoint: Callable[..., Path],
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    safetensors = pytest.importorskip("safetensors.torch")
    path = write_checkpoint()
    formats = ("state-dict", "safetensors", "pt2", "onnx")
    result = export_encoder(ExportConfig(str(path), formats=formats))
    assert set(result.files) == set(result.errors) == set(formats)
    encoder = load_checkpoint(path).model.encoder
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = encoder(images)
    weights = torch.load(result.files["state-dict"], weights_only=True)
    kept = safetensors.load_file(result.files["safetensors"])
    for name, value in encoder.state_dict().items():
        assert torch.equal(weights[name], value)
        assert torch.equal(kept[name], value)
    graph = torch.export.load(result.files["pt2"]).module()
    assert (graph(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    session = onnxruntime.InferenceSession(result.files["onnx"])
    (found,) = session.run(None, {"images": images.numpy()})
    assert (torch.from_numpy(found) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("encoder", ["resnet18", "torchvision:resnet18"])
def test_weights_of_a_resnet_are_torchvisions(
    encoder: str, write_checkpoint: Callable[..., Path]
) -> None:
    model = ModelConfig(encoder=encoder, stem="imagenet", projection_dim=8)
    path = write_checkpoint(model=model, image_size=32)
    result = export_encoder(ExportConfig(str(path)))
    assert result.loads_into == "torchvision.models.resnet18"
    network = torchvision.models.resnet18()
    weights = torch.load(result.files["state-dict"], weights_only=True)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    network.fc = nn.Identity()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_checkpoint(path).model.encoder(images)
        error = (network.eval()(images) - expected).abs().max()
    assert error < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        (ModelConfig(encoder="resnet18", stem="imagenet", normalize="imagenet"), 3),
        (ModelConfig(encoder="resnet18", stem="imagenet"), 1),
        (ModelConfig(encoder="resnet18", stem="imagenet", normalize="imagenet"), 1),
        (ModelConfig(encoder="torchvision:resnet18"), 3),
        (ModelConfig(encoder="timm:resnet10t"), 1),
    ],
    ids=["resnet", "gray", "normalized gray", "torchvision", "timm"],
)
def test_a_hub_folder_loads_into_timm(
    model: ModelConfig,
    channels: int,
    write_checkpoint: Callable[..., Path],
    write_npz: Callable[..., Path],
) -> None:
    pytest.importorskip("safetensors")
    timm = pytest.importorskip("timm")
    gray = {f"{part}_images": np.zeros((n, 32, 32), np.uint8) for part, n in PARTS.items()}
    data = str(write_npz("pets", **(gray if channels == 1 else {})))
    path = write_checkpoint(data=data, model=model, image_size=32)
    folder = export_encoder(ExportConfig(str(path), formats=("hub",))).files["hub"]
    assert {file.name for file in folder.iterdir()} == HUB_FILES
    network = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_data_config(model=network)
    theirs = json.loads((folder / "config.json").read_text())["pretrained_cfg"]["input_size"][0]
    assert tuple(config["input_size"]) == (theirs, 32, 32)
    images = torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    inputs = images.expand(-1, theirs, -1, -1)
    with torch.no_grad():
        mean, std = list(config["mean"]), list(config["std"])
        found = network(v2.functional.normalize(inputs, mean, std))
        torch.testing.assert_close(found, load_checkpoint(path).model.encoder(images))
    assert network.num_features == json.loads((folder / "config.json").read_text())["num_features"]
    card = (folder / "README.md").read_text()
    assert 'timm.create_model("local-dir:FOLDER"' in card
    assert ("must be repeated to three" in card) == (theirs != channels)


@pytest.mark.parametrize("encoder", ["small", "resnet18", "torchvision:shufflenet_v2_x0_5"])
def test_a_hub_folder_is_an_encoder_in_one_line(
    encoder: str, write_checkpoint: Callable[..., Path]
) -> None:
    pytest.importorskip("safetensors")
    path = write_checkpoint(model=ModelConfig(encoder=encoder, projection_dim=8), image_size=32)
    result = export_encoder(ExportConfig(str(path), formats=("hub",)))
    assert result.errors["hub"] < 1e-5
    loaded, expected = load_encoder(result.files["hub"]), load_checkpoint(path).model.encoder
    assert (loaded.channels, loaded.side, loaded.dim) == (3, 32, expected.dim)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), expected(images))
    card = (result.files["hub"] / "README.md").read_text()
    assert "timm" not in card
    assert str(path.parent.parent) not in card  # no path of this machine


def test_the_card_has_the_recipe_and_the_accuracies_of_its_step(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    config = TrainConfig(
        out=str(tmp_path / "run"), image_size=8, epochs=1, batch_size=359, temperature=0.37,
        model=ModelConfig(width=4, blocks=(1, 1)), optim=OptimConfig(warmup_epochs=0),
    )  # fmt: skip
    result = train(config)
    export = ExportConfig(str(result.folder), formats=("hub",))
    card = export_encoder(export).files["hub"] / "README.md"
    text = card.read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["tags"] == ["self-supervised", "simclr"]
    assert "# small, trained by SimCLR on digits" in body
    assert result.table in body
    recipe = yaml.safe_load(body.partition("```yaml\n")[2].partition("```")[0])
    assert (recipe["temperature"], recipe["model"]["width"]) == (0.37, 4)
    written = result.folder / "evaluation.json"
    evaluation = json.loads(written.read_text())
    written.write_text(json.dumps({**evaluation, "step": 1}))
    export_encoder(export)
    assert "Not evaluated." in card.read_text()
    written.write_text("{}")
    with pytest.raises(CheckpointError, match=r"evaluation.json: not an evaluation by train"):
        export_encoder(export)


def test_damaged_hub_folders(write_checkpoint: Callable[..., Path]) -> None:
    pytest.importorskip("safetensors")
    path = write_checkpoint()
    folder = export_encoder(ExportConfig(str(path), formats=("hub",))).files["hub"]
    weights, config = folder / "model.safetensors", folder / "config.json"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model.safetensors: not the weights of "):
        load_encoder(folder)
    config.write_text('{"architecture": "resnet18"}')
    with pytest.raises(CheckpointError, match=r"export wrote .'simclr_ext' is missing"):
        load_encoder(folder)
    config.write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json: not a configuration that simclr-ext"):
        load_encoder(folder)


def test_a_wrong_hub_folder_is_removed_but_for_other_files(
    write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("safetensors")
    monkeypatch.setitem(export._TOLERANCE, "hub", -1.0)
    path = write_checkpoint()
    hub = path.parent / "export" / "hub"
    hub.mkdir(parents=True)
    (hub / "LICENSE").touch()
    with pytest.raises(ExportError, match="hub: the written file deviates"):
        export_encoder(ExportConfig(str(path), formats=("hub",)))
    assert [file.name for file in hub.iterdir()] == ["LICENSE"]


def test_a_run_starts_from_a_hub_folder(write_checkpoint: Callable[..., Path]) -> None:
    pytest.importorskip("safetensors")
    path = write_checkpoint()
    folder = export_encoder(ExportConfig(str(path), formats=("hub",))).files["hub"]
    expected = load_checkpoint(path)
    config = dataclasses.replace(expected.config, init=str(folder), seed=3)
    model = build_model(config)
    report = initialize(model, config)
    assert (report.left_out, report.head) == ({}, (0, len(model.head.state_dict())))
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, expected.model.encoder.state_dict()[name])


def test_a_wrong_file_is_an_error_and_is_removed(
    write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(path: Path, checkpoint: Checkpoint, images: Tensor) -> Tensor:
        path.touch()
        with torch.no_grad():
            return 1.001 * checkpoint.model.encoder(images)

    monkeypatch.setitem(export._WRITERS, "pt2", wrong)
    path = write_checkpoint()
    with pytest.raises(ExportError, match=r"pt2: the written file deviates by 1\.0e-03"):
        export_encoder(ExportConfig(str(path), formats=("pt2",)))
    assert not list((path.parent / "export").iterdir())


def test_missing_packages_and_wrong_options(
    write_checkpoint: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda n: None if n == "onnxscript" else find(n))
    path = write_checkpoint()
    with pytest.raises(MissingExtraError, match=r"pip install 'simclr-ext\[onnx\]'"):
        export_encoder(ExportConfig(str(path), formats=("onnx",)))
    with pytest.raises(ConfigError, match="formats must be one or more"):
        ExportConfig(str(path), formats=())
    assert main(["export", str(path), "--formats", "[state-dict]"]) == 0
    assert "this package's encoder" in capsys.readouterr().out
