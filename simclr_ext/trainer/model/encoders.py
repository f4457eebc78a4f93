"""Encoders f: images [B, C, H, W] in [0, 1] to representations h, [B, dim].

`ResNet` has torchvision's modules and names, so that their state dicts are interchangeable. Its
width multiplies every channel (SimCLR, arXiv 2002.05709, section 5); torchvision's wide ResNets
only widen the bottlenecks.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from simclr_ext.options.errors import ConfigError, MissingArgumentError, MissingExtraError
from simclr_ext.trainer.config import ModelConfig
from simclr_ext.trainer.config.model import OTHERS


class _Layout(NamedTuple):
    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, ...]


_LAYOUTS = {
    "resnet18": _Layout(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _Layout(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _Layout(Bottleneck, (3, 4, 6, 3)),
    "resnet101": _Layout(Bottleneck, (3, 4, 23, 3)),
    "resnet152": _Layout(Bottleneck, (3, 8, 36, 3)),
}


# Mean and deviation of each color by which `ModelConfig.normalize` normalizes images.
STATISTICS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision's
}


class Encoder(nn.Module):
    """Base of the encoders.

    Attributes:
        dim: Dimension of h.
        normalize: What is done to the images first; it has no entry in the state dict.
        channels: C of the images that it was trained on; set by `load_encoder`, like the next one.
        side: Side in pixels of the images that it was trained on.
    """

    dim: int
    normalize: nn.Module
    channels: int
    side: int


class Normalize(nn.Module):
    """(image - mean) / deviation for each color of ImageNet's images: [B, C, H, W] to [B, 3, H, W].

    Gray images, C = 1, are repeated to three colors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), STATISTICS["imagenet"], strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalized images."""
        return (images.expand(-1, 3, -1, -1) - self.mean) / self.std


class ResNet(Encoder):
    """A ResNet without its classifier.

    Args:
        channels: C of the images.
        width: Channels of the first stage; each further stage doubles them.
        blocks: Residual blocks of each stage; each stage after the first halves the side.
        block: Basic or bottleneck.
        stem: "cifar" or "imagenet", see `ModelConfig`.
        zero_init_residual: Whether every block starts as the identity.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        blocks: tuple[int, ...],
        *,
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
        stem: str = "cifar",
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        self.normalize = nn.Identity()
        small = stem == "cifar"
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = [f"layer{stage}" for stage in range(1, len(blocks) + 1)]
        inputs = width
        for stage, (name, count) in enumerate(zip(self.stages, blocks, strict=True)):
            planes, layers = width * 2**stage, nn.Sequential()
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(_block(block, inputs, planes, stride))
                inputs = planes * block.expansion
            self.add_module(name, layers)
        self.dim = inputs
        self._initialize(zero_init_residual)

    def _initialize(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as in torchvision's ResNet
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                nn.init.zeros_(last.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return h, [B, dim], the average over positions."""
        maps: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(self.normalize(images)))))
        for name in self.stages:
            maps = self.get_submodule(name)(maps)
        return maps.mean(dim=(2, 3))


def _block(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, planes: int, stride: int
) -> nn.Module:
    shortcut = None
    outputs = planes * block.expansion
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )
    module: nn.Module = block(inputs, planes, stride, shortcut)
    return module


class Backbone(Encoder):
    """Another library's model.

    Args:
        model: Function of images [B, channels, H, W] to h.
        dim: Dimension of h.
        channels: Channels that the model takes; images of one channel are repeated to them.
    """

    def __init__(self, model: nn.Module, dim: int, channels: int = 3) -> None:
        super().__init__()
        self.normalize = nn.Identity()
        self.model = model
        self.dim = dim
        self._channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Return h, [B, dim]."""
        h: Tensor = self.model(self.normalize(images.expand(-1, self._channels, -1, -1)))
        return h


def build_encoder(config: ModelConfig, channels: int) -> Encoder:
    """Return the untrained encoder that a configuration names.

    Args:
        config: The model's configuration.
        channels: C of the images. Models of torchvision take 1 or 3 only.

    Raises:
        ConfigError: The other library has no such model, the model has no classifier to remove, or
            it cannot take so many channels.
        MissingArgumentError: The encoder is "custom".
        MissingExtraError: The model is timm's, and timm is not installed.
    """
    if config.encoder == "custom":
        raise MissingArgumentError(
            "the encoder is a module of your own: pass it from Python, as the argument `encoder`"
        )
    encoder = _build(config, network_channels(config, channels))
    if config.normalize == "imagenet":
        if channels not in (1, 3):
            raise ConfigError(
                f"model.normalize: imagenet is for 1 or 3 channels, these images have {channels}"
            )
        encoder.normalize = Normalize()
    return encoder


def network_channels(config: ModelConfig, channels: int) -> int:
    """Return the channels of what the network itself gets, for images of some channels.

    Gray images are repeated for other libraries' models, and by `Normalize`.
    """
    if channels != 1:
        return channels
    return 3 if config.encoder.startswith(OTHERS) or config.normalize == "imagenet" else 1


def network_of(encoder: Encoder) -> nn.Module:
    """Return the module whose parameters have the names of torchvision's or timm's model."""
    return encoder.model if isinstance(encoder, Backbone) else encoder


def _build(config: ModelConfig, channels: int) -> Encoder:
    shared: dict[str, Any] = {"stem": config.stem, "zero_init_residual": config.zero_init_residual}
    if config.encoder == "small":
        return ResNet(channels, config.width, config.blocks, **shared)
    library, _, name = config.encoder.partition(":")
    if library == "torchvision":
        return _torchvision(name, channels)
    if library == "timm":
        return _timm(name, channels)
    block, blocks = _LAYOUTS[config.encoder]
    return ResNet(channels, 64 * config.width_multiplier, blocks, block=block, **shared)


def _torchvision(name: str, channels: int) -> Backbone:
    if channels != 3:
        raise ConfigError(
            f"model.encoder: torchvision:{name} takes images of 1 or 3 channels, these have "
            f"{channels}: try small, resnet18 to resnet152, or a model of timm"
        )
    if name not in torchvision.models.list_models(torchvision.models):
        raise ConfigError(
            f"model.encoder must name a classifier of torchvision.models, got {name!r}"
        )
    model = torchvision.models.get_model(name, weights=None)
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    classifier = model.get_submodule(linear[-1]) if linear else None
    if not isinstance(classifier, nn.Linear) or classifier.out_features != 1000:
        raise ConfigError(f"model.encoder: {name} does not end in a linear classifier")
    parent, _, attribute = linear[-1].rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return Backbone(model, classifier.in_features)


def _timm(name: str, channels: int) -> Backbone:
    try:
        import timm
    except ImportError:
        raise MissingExtraError(f"model.encoder: timm:{name} needs it: pip install timm") from None
    if not timm.is_model(name):
        raise ConfigError(f"model.encoder must name a model of timm, got {name!r}")
    model = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
    return Backbone(model, cast(int, model.num_features), channels)
