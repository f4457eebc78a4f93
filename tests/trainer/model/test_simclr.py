"""The network's shapes and structure."""

import pytest
import torch
from torch import nn

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import ModelConfig
from simclr_ext.trainer.model.simclr import SimCLR


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(channels: int) -> None:
    config = ModelConfig(width=4, blocks=(1, 2, 1), projection_hidden=6, projection_dim=5)
    model = SimCLR(config, channels)
    images = torch.rand(3, channels, 17, 16)
    h, z = model(images)
    assert (h.shape, z.shape) == ((3, 16), (3, 5))
    assert model.encoder.dim == 16
    assert torch.equal(model.eval().encoder(images), model(images)[0])
    assert bool((h >= 0).all())  # an average after a ReLU


def test_projection_head_is_linear_relu_linear_as_wide_as_h() -> None:
    head = SimCLR(ModelConfig(width=4, blocks=(1, 1), projection_dim=5), 1).head
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert (head[0].weight.shape, head[2].weight.shape) == ((8, 8), (5, 8))


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (ModelConfig(projection="none"), []),
        (ModelConfig(projection="linear"), ["Linear 64 128 +"]),
        (
            ModelConfig(projection_depth=3, projection_hidden=7),
            ["Linear 64 7 +", "ReLU", "Linear 7 7 +", "ReLU", "Linear 7 128 +"],
        ),
        (
            ModelConfig(projection_batch_norm=True, projection_dim=5),
            ["Linear 64 64 +", "BatchNorm1d", "ReLU", "Linear 64 5", "BatchNorm1d"],
        ),
    ],
    ids=["none", "linear", "deep", "batch norm"],
)
def test_kinds_of_heads(config: ModelConfig, layers: list[str]) -> None:
    def describe(layer: nn.Module) -> str:
        name = type(layer).__name__
        if not isinstance(layer, nn.Linear):
            return name
        bias = " +" if layer.bias is not None else ""
        return f"{name} {layer.in_features} {layer.out_features}{bias}"

    model = SimCLR(config, 3).eval()
    assert [describe(layer) for layer in model.head] == layers
    h, z = model(torch.rand(2, 3, 16, 16))
    assert z.shape == (2, h.shape[1] if not layers else config.projection_dim)


def test_representation_ends_after_a_layer_of_the_head() -> None:
    """SimCLR v2 fine-tunes from the first layer of a deep head, including its ReLU."""
    model = SimCLR(ModelConfig(width=4, projection_depth=3, projection_batch_norm=True), 1).eval()
    images = torch.rand(2, 1, 16, 16)
    h, z = model(images)
    assert torch.equal(model.representation()(images), h)
    assert torch.equal(
        model.representation(1)(images), model.head[2](model.head[1](model.head[0](h)))
    )
    assert torch.equal(model.representation(3)(images), z)
    assert model.representation(1)[1][0].weight is model.head[0].weight
    with pytest.raises(ConfigError, match="head has 3 linear layers, got 4"):
        model.representation(4)
