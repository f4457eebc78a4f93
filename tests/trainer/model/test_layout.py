"""Memory formats: oneDNN's bug of narrow strided convolutions is avoided."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from simclr_ext.trainer.config import ModelConfig, TrainConfig
from simclr_ext.trainer.model.layout import memory_format
from simclr_ext.trainer.model.simclr import build_model

# Two steps at a size at which the bug crashes the process, and the gradient of the narrow layer. In
# its own process, because it may crash.
PROGRAM = """
import torch
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.data import Dataset, Part
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.state import Training
from simclr_ext.trainer.views.batches import build_source
from simclr_ext.trainer.config import ModelConfig, OptimConfig

torch.set_num_threads(1)
config = TrainConfig(
    image_size=128, epochs=2, batch_size=8, optim=OptimConfig(warmup_epochs=0),
    model=ModelConfig(width=8, blocks=(1, 1)),
).resolve(3, 128, 128)
images = torch.randint(256, (8, 3, 128, 128), dtype=torch.uint8)
part = Part.of(images, torch.arange(8) % 2)
data = Dataset("noise", part, part, ("even", "odd"))
training = Training.start(build_model(config), config)
for _ in pretrain(training, build_source(data, config), config):
    pass
print("trained")
"""


def test_a_narrow_encoder_trains_at_a_large_side() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr


@pytest.mark.parametrize(
    ("layer", "safe"),
    [
        (nn.Conv2d(8, 16, 1, stride=2), False),
        (nn.Conv2d(15, 16, 1, stride=3), False),
        (nn.Conv2d(32, 32, 1, stride=2, groups=4), False),
        (nn.Conv2d(16, 16, 1, stride=2), True),
        (nn.Conv2d(8, 16, 1), True),
        (nn.Conv2d(8, 16, 3, stride=2), True),
    ],
    ids=["narrow", "stride 3", "groups", "wide", "stride 1", "3 x 3"],
)
def test_layers_that_must_be_contiguous(layer: nn.Module, safe: bool) -> None:
    found = memory_format(nn.Sequential(nn.Linear(2, 2), layer), channels_last=True)
    assert found == (torch.channels_last if safe else torch.contiguous_format)
    assert memory_format(layer, channels_last=False) == torch.contiguous_format


@pytest.mark.parametrize(("width", "last"), [(8, False), (16, True)], ids=["narrow", "wide"])
def test_a_model_lies_as_it_is_computed(width: int, last: bool) -> None:
    config = TrainConfig(model=ModelConfig(width=width, blocks=(1, 1))).resolve(3, 8, 8)
    weight = build_model(config).encoder.get_submodule("layer1").get_parameter("0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) == last
