"""The encoders: equal to torchvision's ResNets where they should be, and their differences."""

import sys

import pytest
import torch
import torchvision
from torch import nn

from simclr_ext.options.errors import ConfigError, MissingExtraError
from simclr_ext.trainer.config import ModelConfig
from simclr_ext.trainer.model.encoders import ResNet, build_encoder


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_are_torchvisions(name: str) -> None:
    ours = build_encoder(ModelConfig(encoder=name, stem="imagenet"), 3).eval()
    theirs = torchvision.models.get_model(name)
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    theirs.fc = nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images))


@pytest.mark.parametrize(
    ("name", "stages", "dim"),
    [
        ("resnet34", [3, 4, 6, 3], 512),
        ("resnet101", [3, 4, 23, 3], 2048),
        ("resnet152", [3, 8, 36, 3], 2048),
    ],
)
def test_depths(name: str, stages: list[int], dim: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(encoder=name), 3)
    assert isinstance(encoder, ResNet)
    assert [len(encoder.get_submodule(stage)) for stage in encoder.stages] == stages  # type: ignore[arg-type]
    assert encoder.dim == dim


@pytest.mark.parametrize(
    ("factor", "millions", "dim"), [(1, 24, 2048), (2, 94, 4096), (4, 375, 8192)]
)
def test_width_multiplies_every_channel(factor: int, millions: int, dim: int) -> None:
    """Parameters of ResNet-50 at 1x, 2x and 4x: table 6 of the paper has 24, 94 and 375 million."""
    config = ModelConfig(encoder="resnet50", stem="imagenet", width_multiplier=factor)
    with torch.device("meta"):
        encoder = build_encoder(config, 3)
    assert round(sum(p.numel() for p in encoder.parameters()) / 1e6) == pytest.approx(
        millions, abs=1
    )
    assert encoder.dim == dim


def test_cifar_stem_keeps_the_side_and_stages_halve_it() -> None:
    encoder = build_encoder(ModelConfig(width=4, blocks=(1, 1, 1)), 3)
    sides = []
    for name in ("conv1", "layer1", "layer2", "layer3"):
        encoder.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: sides.append(output.shape[-1])
        )
    encoder(torch.rand(1, 3, 16, 16))
    assert sides == [16, 16, 8, 4]
    assert not any(isinstance(module, nn.MaxPool2d) for module in encoder.modules())


@pytest.mark.parametrize("name", ["small", "resnet50"])
def test_zero_init_makes_every_block_the_identity(name: str) -> None:
    config = ModelConfig(encoder=name, zero_init_residual=True)
    encoder = build_encoder(config, 3)
    last = "bn3" if name == "resnet50" else "bn2"
    blocks = [module for module in encoder.modules() if hasattr(module, last)]
    assert blocks
    assert all(bool((getattr(block, last).weight == 0).all()) for block in blocks)
    plain = build_encoder(ModelConfig(encoder=name), 3)
    assert all(
        bool((bn.weight == 1).all()) for bn in plain.modules() if isinstance(bn, nn.BatchNorm2d)
    )


@pytest.mark.parametrize(
    ("name", "dim"), [("mobilenet_v3_small", 1024), ("shufflenet_v2_x0_5", 1024), ("resnet18", 512)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_classifier_of_torchvision(name: str, dim: int, channels: int) -> None:
    encoder = build_encoder(ModelConfig(encoder=f"torchvision:{name}"), channels).eval()
    with torch.no_grad():
        h = encoder(torch.rand(2, channels, 64, 64))
    assert h.shape == (2, dim)
    assert encoder.dim == dim


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet_19", "must name a classifier of torchvision.models, got 'resnet_19'"),
        ("squeezenet1_0", "squeezenet1_0 does not end in a linear classifier"),
    ],
)
def test_what_torchvision_does_not_have(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(ModelConfig(encoder=f"torchvision:{name}"), 3)


def test_models_of_torchvision_take_gray_and_color_only() -> None:
    with pytest.raises(ConfigError, match="torchvision:resnet18 takes images of 1 or 3 channels, "):
        build_encoder(ModelConfig(encoder="torchvision:resnet18"), 5)
    with pytest.raises(ConfigError, match="imagenet is for 1 or 3 channels, these images have 5"):
        build_encoder(ModelConfig(normalize="imagenet"), 5)


def test_timm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="pip install timm"):
        build_encoder(ModelConfig(encoder="timm:resnet10t"), 3)


def test_any_model_of_timm() -> None:
    pytest.importorskip("timm")
    encoder = build_encoder(ModelConfig(encoder="timm:resnet10t"), 1).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 1, 64, 64)).shape == (2, encoder.dim)
    encoder = build_encoder(ModelConfig(encoder="timm:resnet10t"), 5).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 5, 64, 64)).shape == (2, encoder.dim)
    with pytest.raises(ConfigError, match="must name a model of timm, got 'resnet_19'"):
        build_encoder(ModelConfig(encoder="timm:resnet_19"), 3)
