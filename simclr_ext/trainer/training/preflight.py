"""Checks before a run starts, of what would otherwise fail late or without a message."""

from __future__ import annotations

import torch
from torch import Tensor

from simclr_ext import NTXentLoss
from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.simclr import SimCLR


def check_loss(temperature: float, device: str) -> None:
    """Compute a small loss, so that a missing backend fails, or is compiled, before the run."""
    views = torch.eye(2, device=device)
    NTXentLoss(temperature)(views, views)


@torch.no_grad()
def check_model(model: SimCLR, config: ResolvedConfig) -> None:
    """Raise ConfigError unless the model takes images of the run's size."""
    images = torch.zeros(2, config.channels, config.side, config.side, device=config.device)
    try:
        _, z = model.eval()(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"model.encoder: {config.model.encoder} does not take images of {config.side} x "
            f"{config.side} ({reason})"
        ) from error
    if not isinstance(z, Tensor) or z.ndim != 2:
        raise ConfigError(f"model.encoder: {config.model.encoder} does not return vectors")
