"""The start of every command on a trained model: its checkpoint, its data, its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from simclr_ext.options.checks import check_device
from simclr_ext.options.errors import RunFolderError
from simclr_ext.options.threads import threads
from simclr_ext.trainer.config.commands import CheckpointConfig
from simclr_ext.trainer.data import Dataset, open_data
from simclr_ext.trainer.model.checkpoint import Checkpoint, load_checkpoint
from simclr_ext.trainer.model.simclr import SimCLR, build_model


@dataclass(frozen=True)
class Session:
    """A trained model, and images for it.

    Attributes:
        path: The checkpoint file.
        checkpoint: The model and its configuration.
        data: The images, with the model's number of channels.
        device: Device of the computation.
    """

    path: Path
    checkpoint: Checkpoint
    data: Dataset
    device: torch.device

    @property
    def side(self) -> int:
        """Side in pixels of the images that the model was trained on."""
        return self.checkpoint.config.side

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.data.class_names)

    def encoder(self, head_layers: int = 0) -> tuple[nn.Module, int]:
        """Return the trained representation on the device, and its dimension."""
        return self._representation(self.checkpoint.model, head_layers)

    def untrained(self, head_layers: int = 0) -> tuple[nn.Module, int]:
        """Return the untrained representation on the device, and its dimension."""
        model = build_model(self.checkpoint.config)
        return self._representation(model, head_layers)

    def _representation(self, model: SimCLR, head_layers: int) -> tuple[nn.Module, int]:
        network = model.representation(head_layers) if head_layers else model.encoder
        network = network.to(self.device).eval()
        channels, side = self.checkpoint.config.channels, self.side
        with torch.no_grad():
            h = network(torch.zeros(1, channels, side, side, device=self.device))
        return network, h.shape[1]

    def folder(self, out: str | None, name: str) -> Path:
        """Return the folder of the results, created: `out`, or `name` beside the checkpoint."""
        folder = self.path.parent / name if out is None else Path(out).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"out: cannot create {folder}: {error.strerror}") from error
        return folder


@contextmanager
def open_session(config: CheckpointConfig) -> Iterator[Session]:
    """Read a checkpoint and its data, and set PyTorch's threads while the block runs.

    Raises:
        CheckpointError: The checkpoint is missing or cannot be read.
        DataError: The data set cannot be read, or has color and the model takes gray images.
        DeviceError: The device cannot be used.
    """
    path = checkpoint_path(config.checkpoint)
    checkpoint = load_checkpoint(path)
    check_device(config.device)
    with threads(config.threads):
        run = checkpoint.config
        root = config.data_root or run.data_root
        background = config.background or run.background
        data = open_data(config.data or run.data, root, config.download, background)
        data = data.at(run.side, config.workers).with_channels(run.channels)
        yield Session(path, checkpoint, data, torch.device(config.device))


def checkpoint_path(checkpoint: str) -> Path:
    """Return the checkpoint file of a path, which is that file or a run folder."""
    path = Path(checkpoint).expanduser()
    return path / "checkpoint.pt" if path.is_dir() else path
