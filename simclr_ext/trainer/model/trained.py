"""A trained encoder for other programs, from whatever holds one."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from simclr_ext.trainer.model.checkpoint import checkpoint_path, load_checkpoint
from simclr_ext.trainer.model.encoders import Encoder


def load_encoder(path: str | Path, module: nn.Module | None = None) -> Encoder:
    """Return the encoder of a run folder or a checkpoint; see `simclr_ext.trainer.load_encoder`.

    Args:
        path: The folder or file.
        module: As for `load_checkpoint`.
    """
    checkpoint = load_checkpoint(checkpoint_path(path), module)
    encoder, config = checkpoint.model.encoder, checkpoint.config
    encoder.channels, encoder.side = config.channels, config.side
    return encoder
