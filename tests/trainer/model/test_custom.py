"""Own modules as encoders: any that map images to vectors; others are one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from simclr_ext.options.errors import CheckpointError, ConfigError, MissingArgumentError
from simclr_ext.trainer.config import ModelConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.model.simclr import build_model

CUSTOM = ModelConfig(encoder="custom", projection_dim=8)


def run(model: ModelConfig = CUSTOM, channels: int = 3) -> ResolvedConfig:
    return TrainConfig(model=model, image_size=8).resolve(channels, 8, 8)


def network(channels: int = 3, dim: int = 5) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, dim, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("channels", [1, 3])
def test_h_is_the_modules(channels: int) -> None:
    module = network(channels)
    model = build_model(run(channels=channels), module)
    images = torch.rand(4, channels, 8, 8)
    h, z = model(images)
    assert (model.encoder.dim, h.shape, z.shape) == (5, (4, 5), (4, 8))
    torch.testing.assert_close(h, module(images))


def test_the_module_is_copied() -> None:
    module = network()
    before = [weight.clone() for weight in module.parameters()]
    model = build_model(run(), module)
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight.zero_()
    assert all(map(torch.equal, before, module.parameters()))


class Fails(nn.Module):
    """Returns, or raises, what it is told."""

    def __init__(self, result: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.result = result

    def forward(self, images: Tensor) -> object:
        return self.result(images)


def broken(_: Tensor) -> object:
    raise KeyError("no\nkey")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("resnet18", "encoder must be a torch.nn.Module, got a str"),
        (nn.Flatten(), "encoder must have parameters to train, Flatten has none"),
        (nn.Conv2d(3, 4, 3), r"return float32 vectors \[2, dim\] .*Conv2d returned \[2, 4, 6, 6\]"),
        (nn.Conv2d(1, 4, 3), r"encoder: Conv2d does not take images \[2, 3, 8, 8\] \(RuntimeError"),
        (Fails(broken), r"encoder: Fails does not take images .*\(KeyError"),
        (Fails(lambda images: [images]), "Fails returned a list"),
        (Fails(lambda images: images.flatten(1)[:1]), r"Fails returned \[1, 192\] torch.float32"),
        (Fails(lambda images: images.flatten(1).double()), r"\[2, 192\] torch.float64"),
    ],
)
def test_what_is_not_an_encoder(module: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        build_model(run(), module)
    assert "\n" not in str(error.value)


def test_a_checkpoint_needs_the_module(tmp_path: Path) -> None:
    path, module = tmp_path / "checkpoint.pt", network()
    model = build_model(run(), network())
    save_checkpoint(path, model, run(), epoch=1)
    loaded = load_checkpoint(path, module).model.eval()
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(loaded(images), model.eval()(images))
    with pytest.raises(MissingArgumentError, match=r"checkpoint.pt: .* as the argument `encoder`"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="that fits the given encoder"):
        load_checkpoint(path, network(dim=6))


def test_a_checkpoint_of_another_encoder_takes_no_module(
    write_checkpoint: Callable[..., Path],
) -> None:
    with pytest.raises(CheckpointError, match=r"encoder must be None for a model with .*'small'"):
        load_checkpoint(write_checkpoint(), network())
