"""The network: encoder f and projection head g; the loss acts on z = g(h), evaluation on h = f(x).

Source: SimCLR (arXiv 2002.05709), section 2.1; SimCLR v2 (arXiv 2006.10029), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import ModelConfig, ResolvedConfig
from simclr_ext.trainer.model.custom import custom_encoder
from simclr_ext.trainer.model.encoders import Encoder, build_encoder
from simclr_ext.trainer.model.layout import memory_format

__all__ = ["Encoder", "ProjectionHead", "SimCLR"]


class ProjectionHead(nn.Sequential):
    """Linear layers with ReLUs in between: [B, dim] -> [B, projection_dim].

    Args:
        dim: Dimension of h.
        config: Kind, depth, widths and batch norm.
    """

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__()
        if config.projection == "none":
            return
        depth = config.projection_depth if config.projection == "mlp" else 1
        widths = [dim, *[config.projection_hidden or dim] * (depth - 1), config.projection_dim]
        for layer in range(depth):
            last, norm = layer == depth - 1, config.projection_batch_norm
            self.append(nn.Linear(widths[layer], widths[layer + 1], bias=not (last and norm)))
            if norm:
                self.append(nn.BatchNorm1d(widths[layer + 1]))
            if not last:
                self.append(nn.ReLU(inplace=True))

    def first(self, layers: int) -> nn.Sequential:
        """Return the first linear layers with the modules that follow each; they share weights."""
        starts = [index for index, module in enumerate(self) if isinstance(module, nn.Linear)]
        if not 0 <= layers <= len(starts):
            raise ConfigError(
                f"the projection head has {len(starts)} linear layers, got {layers} of them"
            )
        return nn.Sequential(*list(self)[: [*starts, len(self)][layers]])


class SimCLR(nn.Module):
    """Encoder and projection head.

    Args:
        config: Their options.
        channels: C of the images.
        encoder: The encoder; None: the one that the configuration names.

    Example:
        >>> import torch
        >>> model = SimCLR(ModelConfig(width=4, projection_dim=8), channels=1)
        >>> h, z = model(torch.zeros(2, 1, 16, 16))
        >>> h.shape, z.shape
        (torch.Size([2, 16]), torch.Size([2, 8]))
    """

    def __init__(self, config: ModelConfig, channels: int, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.encoder = build_encoder(config, channels) if encoder is None else encoder
        self.head = ProjectionHead(self.encoder.dim, config)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return h [B, dim] and z [B, projection_dim] of images [B, C, H, W] in [0, 1]."""
        h = self.encoder(images)
        return h, self.head(h)

    def representation(self, head_layers: int = 0) -> nn.Sequential:
        """Return the network to fine-tune or to evaluate; it shares this model's weights.

        Args:
            head_layers: Linear layers of the head that are kept. 0, SimCLR: f alone; 1, SimCLR v2:
                its larger models are fine-tuned from the head's first layer.

        Raises:
            ConfigError: The head has fewer layers.

        Example:
            >>> model = SimCLR(ModelConfig(projection_depth=3), channels=3)
            >>> [type(layer).__name__ for layer in model.representation(1)[1]]
            ['Linear', 'ReLU']
        """
        return nn.Sequential(self.encoder, self.head.first(head_layers))


def build_model(config: ResolvedConfig, module: nn.Module | None = None) -> SimCLR:
    """Return the untrained model of a run, on the CPU; equal seeds give equal models.

    Args:
        config: The run.
        module: The user's own encoder, which is copied with its weights; None: there is none.

    Raises:
        ConfigError: As for `build_encoder` and `custom_encoder`.
        MissingArgumentError: The configuration's encoder is "custom", and `module` is None.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random state is not changed
        torch.manual_seed(config.seed)
        encoder = None if module is None else custom_encoder(module, config)
        model = SimCLR(config.model, config.channels, encoder)
    return model.to(memory_format=memory_format(model, config.channels_last))


def learned(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and running statistics by name, without other buffers.

    A mask, which is a buffer too, may hold infinities.
    """
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            tensors[name] = buffer
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity."""
    finite = torch.stack([value.isfinite().all() for value in tensors.values()])
    return [name for name, ok in zip(tensors, finite.tolist(), strict=True) if not ok]
