"""A trained encoder for other programs, from whatever holds one."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from simclr_ext.trainer.model.checkpoint import checkpoint_path, load_checkpoint
from simclr_ext.trainer.model.encoders import Encoder
from simclr_ext.trainer.model.hub import is_hub, read_hub


def load_encoder(path: str | Path, module: nn.Module | None = None) -> Encoder:
    """Return the encoder of a folder or a checkpoint; see `simclr_ext.trainer.load_encoder`.

    Args:
        path: A run folder, a checkpoint, or a folder that was exported for the hub.
        module: As for `load_checkpoint`.
    """
    folder = Path(path).expanduser()
    if is_hub(folder):
        return read_hub(folder, module)
    checkpoint = load_checkpoint(checkpoint_path(path), module)
    encoder, config = checkpoint.model.encoder, checkpoint.config
    encoder.channels, encoder.side = config.channels, config.side
    return encoder
