"""The start of every command that reads images for a trained model: checkpoint, data, folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from simclr_ext.options.checks import check_device
from simclr_ext.options.errors import RunFolderError
from simclr_ext.options.threads import threads
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.config.commands import DataConfig
from simclr_ext.trainer.config.images import ImagesConfig
from simclr_ext.trainer.data import Dataset, absolute_data, open_data
from simclr_ext.trainer.model.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from simclr_ext.trainer.model.initial import initial_model
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.progress import say


@dataclass(frozen=True)
class Session:
    """A trained model, and images for it.

    Attributes:
        path: The checkpoint file.
        checkpoint: The model and its configuration.
        data: The images, with the model's number of channels.
        device: Device of the computation.
        module: The user's own encoder, if the model has one.
    """

    path: Path
    checkpoint: Checkpoint
    data: Dataset
    device: torch.device
    module: nn.Module | None = None

    @property
    def side(self) -> int:
        """Side in pixels of the images that the model was trained on."""
        return self.checkpoint.config.side

    @property
    def labeled(self) -> Dataset:
        """The images that have a label.

        Raises:
            DataError: There are no labels to evaluate with.
        """
        return self.data.labeled

    @property
    def start(self) -> str:
        """Name of the encoder before training."""
        return self.checkpoint.config.start

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.data.class_names)

    def encoder(self, head_layers: int = 0) -> tuple[nn.Module, int]:
        """Return the trained representation on the device, and its dimension."""
        return self._representation(self.checkpoint.model, head_layers)

    def initial(self, head_layers: int = 0) -> tuple[nn.Module, int]:
        """Return the representation before training on the device, and its dimension."""
        model = initial_model(self.checkpoint.config, self.path.parent, self.module)
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
def open_session(
    config: DataConfig, module: nn.Module | None = None, *, split: bool = True
) -> Iterator[Session]:
    """Read a checkpoint and its data, and set PyTorch's threads while the block runs.

    Args:
        config: The command's options.
        module: As for `load_checkpoint`.
        split: Whether to hold out test images as in the training, if the data set has none of its
            own.

    Raises:
        CheckpointError: The checkpoint is missing or cannot be read.
        DataError: The data set cannot be read, or has color and the model takes gray images.
        DeviceError: The device cannot be used.
    """
    path = checkpoint_path(config.checkpoint)
    checkpoint = load_checkpoint(path, module)
    check_device(config.device)
    with threads(config.threads):
        run = checkpoint.config
        name = run.data if config.data is None else absolute_data(config.data)
        # The run's images are split as they were for the run.
        images = run.images if name == run.data else ImagesConfig(background=run.images.background)
        if not split:
            images = dataclasses.replace(images, test_share=0.0)
        data = open_for(run, name, images, config)
        yield Session(path, checkpoint, data, torch.device(config.device), module)


def open_for(
    run: ResolvedConfig,
    name: str,
    images: ImagesConfig,
    config: DataConfig,
    load: bool = True,
) -> Dataset:
    """Return images for a trained model, with its side and number of channels.

    Args:
        run: The model's configuration.
        name: The data set.
        images: How they are read and split, but for broken ones.
        config: The command's options.
        load: As for `open_data`.

    Raises:
        DataError: They cannot be read, or do not suit the model.
    """
    root = config.data_root or run.data_root
    images = dataclasses.replace(images, on_broken=config.on_broken)
    data = open_data(name, root, config.download, images, config.workers, load=load)
    for text in data.broken:
        say(f"left out: {text}")
    return data.at(run.side, config.workers).with_channels(run.channels)
