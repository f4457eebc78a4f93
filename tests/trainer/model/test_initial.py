"""Weights to start from: what fits is loaded, the rest is named, and a run keeps them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from simclr_ext.options.errors import CheckpointError
from simclr_ext.trainer.config import ModelConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.model.initial import InitReport, initialize
from simclr_ext.trainer.model.simclr import SimCLR, build_model

SMALL = ModelConfig(width=4, blocks=(1, 1), projection_dim=8)
RESNET = ModelConfig(encoder="resnet18", stem="imagenet", projection_dim=8)


def run(init: Path | str, model: ModelConfig = SMALL, channels: int = 3, seed: int = 1) -> Any:
    options = TrainConfig(init=str(init), model=model, seed=seed, image_size=32)
    return options.resolve(channels, 32, 32)


def start(config: ResolvedConfig) -> tuple[SimCLR, InitReport]:
    model = build_model(config)
    return model, initialize(model, config)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[SimCLR, Path]:
    """A model of another seed, and its checkpoint."""
    config = run("unused", seed=7)
    model, path = build_model(config), tmp_path / "checkpoint.pt"
    save_checkpoint(path, model, config, epoch=3)
    return model, path


def assert_equal(found: nn.Module, expected: nn.Module) -> None:
    theirs = expected.state_dict()
    for name, value in found.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_a_checkpoint_brings_encoder_and_head(saved: tuple[SimCLR, Path]) -> None:
    expected, path = saved
    model, report = start(run(path))
    assert_equal(model, expected)
    encoder, head = len(expected.encoder.state_dict()), len(expected.head.state_dict())
    assert str(report) == (
        f"init: {encoder} of {encoder} tensors of the encoder and {head} of {head} of the head "
        f"from {path}"
    )


def test_what_does_not_fit_stays_random_and_is_named(saved: tuple[SimCLR, Path]) -> None:
    expected, path = saved
    wide = dataclasses.replace(SMALL, projection_dim=16, blocks=(1, 1, 1))
    model, report = start(run(path, wide))
    untrained = build_model(run(path, wide))
    own, theirs, random = (m.encoder.state_dict() for m in (model, expected, untrained))
    for name, value in own.items():
        source = random if name.startswith("layer3") else theirs
        assert torch.equal(value, source[name]), name
    assert report.encoder == (len(theirs), len(own))
    assert report.left_out["layer3.0.conv1.weight"] == "not in the file"
    assert report.left_out["head.2.weight"] == "[8, 8] in the file, [16, 16] in the model"
    assert "more; " not in str(report)
    assert str(report).endswith(" more")


@pytest.mark.parametrize(
    "nest",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "epoch": 1},
        lambda weights: {"model": {f"module.{name}": value for name, value in weights.items()}},
        lambda weights: {"encoder": weights, "extra": torch.ones(1)},
        lambda weights: {f"module.encoder_q.{name}": value for name, value in weights.items()},
    ],
    ids=["plain", "state_dict", "module", "encoder", "encoder_q"],
)
@pytest.mark.parametrize("encoder", [RESNET, ModelConfig(encoder="torchvision:resnet18")])
def test_a_state_dict_of_torchvision(
    nest: Callable[[dict[str, Tensor]], object], encoder: ModelConfig, tmp_path: Path
) -> None:
    theirs = torchvision.models.resnet18().eval()
    torch.save(nest(theirs.state_dict()), tmp_path / "resnet18.pth")
    model, report = start(run(tmp_path / "resnet18.pth", encoder))
    assert report.encoder == (120, 120)
    assert report.unused == {"fc.weight": "a classifier", "fc.bias": "a classifier"}
    assert "not used: fc.weight (a classifier), fc.bias (a classifier)" in str(report)
    assert report.head == (0, 4)
    theirs.fc = nn.Identity()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder.eval()(images), theirs(images))


def test_images_are_normalized_as_the_weights_expect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    theirs = torchvision.models.resnet18().eval()
    (tmp_path / "checkpoints").mkdir()
    torch.save(theirs.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    init = "torchvision:resnet18:IMAGENET1K_V1"
    model, _ = start(run(init, dataclasses.replace(RESNET, normalize="imagenet")))
    theirs.fc = nn.Identity()
    images = torch.rand(2, 3, 32, 32)
    expected = normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(model.encoder.eval()(images), theirs(expected))
    with pytest.warns(UserWarning, match=r"mean \[0.485, .*normalize is 'none'; 'imagenet' fits"):
        start(run(init, RESNET))
    gray, report = start(run(init, dataclasses.replace(RESNET, normalize="imagenet"), channels=1))
    assert report.changed == {}
    with torch.no_grad():  # gray images are repeated to three colors
        expected = model.encoder(images[:, :1].expand(-1, 3, -1, -1))
        torch.testing.assert_close(gray.encoder.eval()(images[:, :1]), expected)


def test_a_color_convolution_is_summed_for_gray_images(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    model, report = start(run(tmp_path / "resnet18.pth", RESNET, channels=1))
    assert report.changed == {"conv1.weight": "summed over 3 channels"}
    assert "changed: conv1.weight (summed over 3 channels)" in str(report)
    theirs.fc = nn.Identity()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = theirs(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(model.encoder.eval()(images), expected)


def test_a_gray_convolution_is_divided_among_the_colors(tmp_path: Path) -> None:
    config, path = run("unused", channels=1, seed=7), tmp_path / "checkpoint.pt"
    gray = build_model(config)
    save_checkpoint(path, gray, config, epoch=1)
    model, report = start(run(path))
    assert report.changed == {"conv1.weight": "divided among 3 channels"}
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = gray.eval().encoder(images.mean(dim=1, keepdim=True))
        torch.testing.assert_close(model.eval().encoder(images), expected)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a.weight": torch.ones(2), "b": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"no tensor fits the encoder, small; .* a.weight, b"):
        start(run(path))
    torch.save({"bn1.weight": torch.ones(5), "bn1.num_batches_tracked": torch.tensor(3)}, path)
    with pytest.raises(CheckpointError, match="no tensor fits the encoder"):
        start(run(path))
    torch.save({"bn1.weight": torch.full((4,), torch.nan)}, path)
    with pytest.raises(CheckpointError, match=r"weights.pt: bn1.weight is not finite"):
        start(run(path))


def test_equal_runs_start_from_equal_weights(saved: tuple[SimCLR, Path]) -> None:
    _, path = saved
    deep = dataclasses.replace(SMALL, blocks=(1, 1, 1))
    assert_equal(start(run(path, deep))[0], start(run(path, deep))[0])
    assert load_checkpoint(path).epoch == 3
