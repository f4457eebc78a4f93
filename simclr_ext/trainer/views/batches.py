"""Where the training loop's batches and views come from: images in memory, or files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config import AugmentConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, ImageFiles, Images
from simclr_ext.trainer.data.files import to_tensor
from simclr_ext.trainer.seeds import Stream, derive_seed, generator
from simclr_ext.trainer.views.augment import Augment
from simclr_ext.trainer.views.crops import crop_files, crop_image


class Source(Protocol):
    """Batches of an epoch, and views of a batch.

    Attributes:
        images: Number of training images.
        steps: Batches of an epoch; an incomplete one is dropped, because NT-Xent depends on N.
    """

    images: int
    steps: int

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Tensor]:
        """Yield the batches of an epoch from the one with number `skip` on, on the device."""

    def views(self, batch: Tensor, seed: int) -> Tensor:
        """Return two views of every image of (a part of) a batch, [2n, C, side, side] in [0, 1].

        The first views come first; equal seeds give equal views.
        """


def build_source(data: Dataset, config: TrainConfig) -> Source:
    """Return the source of a run; the configuration must be resolved.

    Raises:
        DataError: A batch takes more images than there are.
    """
    images = data.pretrain_images
    if isinstance(images, Tensor):
        return MemorySource(images, config)
    return FileSource(images, config)


class MemorySource:
    """Images in memory, kept on the device; a batch is [N, C, H, W] uint8.

    Args:
        images: [n, C, H, W] uint8.
        config: The run, resolved.
        augment: Makes a view of each image of a batch from a source of random numbers; None: the
            run's augmentation does.

    Raises:
        DataError: A batch takes more images than there are.
    """

    def __init__(
        self,
        images: Tensor,
        config: TrainConfig,
        augment: Callable[[Tensor, Generator], Tensor] | None = None,
    ) -> None:
        self._pixels = images.to(config.device)
        self._config = config
        self._augment = augment or Augment(config.augment, config.side)
        self.images = len(images)
        self.steps = _steps(self.images, config)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Tensor]:
        """Yield batches; see `Source`."""
        for rows in epoch_order(self.images, epoch, self._config)[skip:]:
            yield self._pixels[rows.to(self._pixels.device)]

    def views(self, batch: Tensor, seed: int) -> Tensor:
        """Return views; see `Source`."""
        random = generator(seed, batch.device)
        return torch.cat([self._augment(batch, random), self._augment(batch, random)])


class FileSource:
    """Image files, decoded and cropped by worker processes; a batch is [N, 2, 3, side, side] uint8.

    The crops are taken from the image as it is; the rest of the augmentation runs on the device.
    """

    def __init__(self, files: ImageFiles, config: TrainConfig) -> None:
        self._files = files
        self._config = config
        uncropped = dataclasses.replace(config.augment, crop_probability=0.0)
        self._augment = Augment(uncropped, config.side)
        self.images = len(files)
        self.steps = _steps(self.images, config)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Tensor]:
        """Yield batches; see `Source`."""
        config = self._config
        rows = epoch_order(self.images, epoch, config)[skip:].flatten().tolist()
        crops = _CropPairs(self._files, config.augment, config.side, config.seed, epoch)
        loader = DataLoader(
            crops,
            config.batch_size,
            sampler=rows,
            num_workers=config.workers,
            pin_memory=torch.device(config.device).type == "cuda",
            generator=generator(0),  # else the loader draws from the global random state
        )
        for batch in loader:
            yield batch.to(config.device, non_blocking=True)

    def views(self, batch: Tensor, seed: int) -> Tensor:
        """Return views; see `Source`."""
        random = generator(seed, batch.device)
        return torch.cat([self._augment(crops, random) for crops in batch.unbind(dim=1)])


@dataclass(frozen=True)
class _CropPairs(TorchDataset[Tensor]):
    """Two random crops of each file, [2, 3, side, side] uint8, the same ones for the same epoch."""

    files: ImageFiles
    augment: AugmentConfig
    side: int
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        image = self.files.open(index)
        random = generator(derive_seed(self.seed, Stream.CROPS, self.epoch, index))
        crops = (crop_image(image, self.augment, self.side, random) for _ in range(2))
        return torch.stack([to_tensor(crop) for crop in crops])


def _steps(images: int, config: TrainConfig) -> int:
    """Return the batches of an epoch; a source of none would train nothing, without a word."""
    if config.batch_size > images:
        raise DataError(
            f"batch_size must be at most the {images} training images, got {config.batch_size}"
        )
    return images // config.batch_size


def epoch_order(images: int, epoch: int, config: TrainConfig) -> Tensor:
    """Return the rows of an epoch's batches, [steps, N], on the CPU."""
    random = generator(derive_seed(config.seed, Stream.ORDER, epoch))
    order = torch.randperm(images, generator=random)
    size = config.batch_size
    return order[: images // size * size].view(-1, size)


def random_views(
    images: Images, augment: Augment, device: torch.device
) -> Callable[[Tensor, Generator], Tensor]:
    """Return the function of rows [b] and a source of random numbers to views, on the device.

    Args:
        images: [n, C, H, W] uint8, or files, whose crops are taken from the image as it is.
        augment: The views.
        device: Where they are made, but for the crops of files.
    """
    if isinstance(images, Tensor):
        return lambda rows, random: augment(images[rows].to(device), random)
    uncropped = Augment(dataclasses.replace(augment.config, crop_probability=0.0), augment.size)

    def views(rows: Tensor, random: Generator) -> Tensor:
        seeds = torch.randint(2**63 - 1, (len(rows),), generator=random)
        crops = crop_files(images, rows, augment.config, seeds)
        return uncropped(crops.to(device), random)

    return views
