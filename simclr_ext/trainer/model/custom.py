"""An encoder of the user's own: any module that maps images to vectors."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.encoders import Backbone


class Custom(Backbone):
    """The user's module; it gets the images as they are."""

    def forward(self, images: Tensor) -> Tensor:
        """Return h, [B, dim]."""
        h: Tensor = self.model(self.normalize(images))
        return h


@torch.no_grad()
def custom_encoder(module: nn.Module, config: ResolvedConfig) -> Custom:
    """Return the encoder that a module makes; it is a copy, on the CPU.

    Args:
        module: Maps images [B, C, side, side] float32 in [0, 1] to h [B, dim]; `dim` is found by a
            forward pass.
        config: The run, whose encoder is "custom".

    Raises:
        ConfigError: The configuration names another encoder; or `module` is not a module, has
            nothing to train, or does not return vectors.
    """
    if config.model.encoder != "custom":
        raise ConfigError(
            f"encoder must be None for a model with its own encoder, {config.model.encoder!r}"
        )
    if not isinstance(module, nn.Module):
        raise ConfigError(f"encoder must be a torch.nn.Module, got a {type(module).__name__}")
    module = copy.deepcopy(module).cpu().eval()
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(f"encoder must have parameters to train, {_name(module)} has none")
    images = torch.zeros(2, config.channels, config.side, config.side)
    shape = list(images.shape)
    try:
        h = module(images)
    except Exception as error:  # the module's own code
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ConfigError(
            f"encoder: {_name(module)} does not take images {shape} ({reason})"
        ) from error
    if not isinstance(h, Tensor) or h.ndim != 2 or len(h) != 2 or h.dtype != torch.float32:
        found = f"{list(h.shape)} {h.dtype}" if isinstance(h, Tensor) else f"a {type(h).__name__}"
        raise ConfigError(
            f"encoder must return float32 vectors [2, dim] for images {shape}, {_name(module)} "
            f"returned {found}"
        )
    return Custom(module, h.shape[1])


def _name(module: nn.Module) -> str:
    return type(module).__name__
