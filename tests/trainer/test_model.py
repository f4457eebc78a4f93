"""The network's shapes and structure."""

import pytest
import torch
from torch import nn

from simclr_ext.trainer.config import ModelConfig
from simclr_ext.trainer.model import SimCLR


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


def test_small_image_stem_keeps_the_side_and_stages_halve_it() -> None:
    encoder = SimCLR(ModelConfig(width=4, blocks=(1, 1, 1)), 3).encoder
    maps = encoder.stem(torch.rand(1, 3, 16, 16))
    sides = [maps.shape[-1]]
    for block in encoder.stages:
        maps = block(maps)
        sides.append(maps.shape[-1])
    assert sides == [16, 16, 8, 4]
    assert not any(isinstance(module, nn.MaxPool2d) for module in encoder.modules())


def test_resnet18_has_its_number_of_parameters() -> None:
    encoder = SimCLR(ModelConfig(width=64, blocks=(2, 2, 2, 2)), 3).encoder
    # torchvision's resnet18 without its classifier: 11,176,512, and 3x3 for 7x7 in the stem.
    stem = 64 * 3 * (7 * 7 - 3 * 3)
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512 - stem


def test_projection_head_is_linear_relu_linear_as_wide_as_h() -> None:
    head = SimCLR(ModelConfig(width=4, blocks=(1, 1), projection_dim=5), 1).head
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert (head[0].weight.shape, head[2].weight.shape) == ((8, 8), (5, 8))
