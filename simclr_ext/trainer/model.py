"""The network: encoder f and projection head g; the loss acts on z = g(h), evaluation on h = f(x).

Source: SimCLR (arXiv 2002.05709), section 2.1, and appendix B.9 for the stem of small images.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from simclr_ext.trainer.config import ModelConfig


class Encoder(nn.Module):
    """A ResNet for small images: a 3x3 stride-1 first convolution and no max pool.

    Args:
        channels: C of the images.
        width: Channels of the first stage; each further stage doubles them.
        blocks: Residual blocks of each stage; each stage after the first halves the side.

    Attributes:
        dim: Dimension of h.
    """

    def __init__(self, channels: int, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential()
        inputs = width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                self.stages.append(_block(inputs, outputs, stride))
                inputs = outputs
        self.dim = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as torchvision's ResNet
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return h, [B, dim], the average over positions, for images [B, C, H, W] in [0, 1]."""
        maps: Tensor = self.stages(self.stem(images))  # [B, dim, H', W']
        return maps.mean(dim=(2, 3))


def _block(inputs: int, outputs: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )
    return BasicBlock(inputs, outputs, stride, shortcut)


class ProjectionHead(nn.Sequential):
    """Linear, ReLU, Linear: [B, dim] -> [B, projection_dim]."""

    def __init__(self, dim: int, hidden: int, projection_dim: int) -> None:
        super().__init__(
            nn.Linear(dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, projection_dim)
        )


class SimCLR(nn.Module):
    """Encoder and projection head.

    Args:
        config: Their sizes.
        channels: C of the images, 1 or 3.

    Example:
        >>> import torch
        >>> model = SimCLR(ModelConfig(width=4, projection_dim=8), channels=1)
        >>> h, z = model(torch.zeros(2, 1, 16, 16))
        >>> h.shape, z.shape
        (torch.Size([2, 16]), torch.Size([2, 8]))
    """

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, config.width, config.blocks)
        dim = self.encoder.dim
        self.head = ProjectionHead(dim, config.projection_hidden or dim, config.projection_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return h [B, dim] and z [B, projection_dim] of images [B, C, H, W] in [0, 1]."""
        h = self.encoder(images)
        return h, self.head(h)
