"""Sources of the training loop's batches and views: images in memory, or files."""

from __future__ import annotations

import dataclasses
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from simclr_ext.options.errors import DataError, WorkerError
from simclr_ext.trainer.config import AugmentConfig, ResolvedConfig
from simclr_ext.trainer.data import Dataset, Images, LazyImages
from simclr_ext.trainer.job import SIGNALS, Job
from simclr_ext.trainer.seeds import Stream, another, derive_seed, generator
from simclr_ext.trainer.views.augment import Augment
from simclr_ext.trainer.views.crops import crop_files, crop_picture
from simclr_ext.trainer.views.custom import MakeViews, check_given, check_views

# How the processes that decode images start, which are new in every epoch. Forks begin at once;
# others, Python's default on Linux since 3.14, first import torch and the user's script. A fork
# lacks torch's threads, but a loader's process computes with one. Elsewhere, Python's default:
# macOS's own libraries may fail in a fork.
_START = "fork" if sys.platform == "linux" else None


class Source(ABC):
    """Batches of an epoch, and views of a batch.

    A batch is [N, 2, C, H, W] uint8, on the device: for each of N images, the inputs of its first
    and second view, which are the image itself, twice, or two crops of it. Of a job of several
    processes, each takes its share of every batch, or of every chunk of a batch if the encoder
    takes one at a time: together they see the images, and the views, that one process would see.

    Args:
        images: Number of training images.
        config: The run, resolved.
        augment: Makes a view of each image.
        job: The processes; None: this one alone.

    Attributes:
        images: Number of training images.
        share: This process's part of a chunk.
        steps: Batches of an epoch; an incomplete batch is dropped, because NT-Xent depends on N.

    Raises:
        DataError: The batch size exceeds the number of images.
    """

    def __init__(
        self, images: int, config: ResolvedConfig, augment: MakeViews, job: Job | None = None
    ) -> None:
        if config.batch_size > images:  # otherwise no batch, and silently no training
            raise DataError(
                f"batch_size must be at most the {images} training images, got {config.batch_size}"
            )
        self.images = images
        self.steps = images // config.batch_size
        self.share = (job or Job()).share(config.micro_batch or config.batch_size)
        self._config = config
        self._augment = augment

    @abstractmethod
    def batches(self, epoch: int, skip: int = 0) -> Iterator[Tensor]:
        """Yield the batches of an epoch, starting at number `skip`."""

    def views(self, batch: Tensor, seed: int) -> Tensor:
        """Return two views of every image of a batch or a part of it, [2n, C, side, side].

        Values are in [0, 1]. The first views come first; equal seeds give equal views. With several
        processes, `batch` is this one's share of a chunk.
        """
        random = generator(seed, batch.device)
        return torch.cat([self._view(images, random) for images in batch.unbind(dim=1)])

    def _view(self, images: Tensor, random: Generator) -> Tensor:
        """Return a view of each image."""
        if len(self.share) == self.share.of:
            return self._augment(images, random)
        if isinstance(self._augment, Augment):
            return self._augment(images, random, self.share)
        # Only the user's function knows what it would draw for the images before these.
        return self._augment(images, another(random, self.share.begin))

    def _order(self, epoch: int) -> Tensor:
        """Return the rows of this process's images in an epoch's batches, [steps, n]."""
        config, share = self._config, self.share
        order = epoch_order(self.images, config.batch_size, config.seed, epoch)
        return order.view(self.steps, -1, share.of)[..., share.rows].flatten(1)


def build_source(
    data: Dataset,
    config: ResolvedConfig,
    augment: MakeViews | None = None,
    job: Job | None = None,
) -> Source:
    """Return the source of a run; the configuration must be resolved.

    Args:
        data: The images.
        config: The run, resolved.
        augment: The user's own augmentation, which is checked; None: there is none.
        job: As for `Source`.

    Raises:
        ConfigError: `augment` is not an augmentation, or the run has another.
        DataError: The batch size exceeds the number of images.
        MissingArgumentError: The run needs `augment`.
    """
    check_given(augment, config.augment)
    images = data.train.images
    source: Source
    if isinstance(images, Tensor):
        source = MemorySource(images, config, augment, job)
    else:
        source = FileSource(images, config, augment, job)
    if augment is not None:
        check_views(augment, next(iter(source.batches(0)))[:2, 0], config)
    return source


class MemorySource(Source):
    """Images in memory, kept on the device.

    Args:
        images: [n, C, H, W] uint8.
        config: The run, resolved.
        augment: As for `Source`; None: the run's augmentation.
        job: As for `Source`.
    """

    def __init__(
        self,
        images: Tensor,
        config: ResolvedConfig,
        augment: MakeViews | None = None,
        job: Job | None = None,
    ) -> None:
        augment = augment or Augment(config.augment, config.side)
        super().__init__(len(images), config, augment, job)
        self._pixels = images.to(config.device)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Tensor]:
        """Yield batches; see `Source`."""
        for rows in self._order(epoch)[skip:]:
            yield twice(self._pixels[rows.to(self._pixels.device)])


def twice(images: Tensor) -> Tensor:
    """Return the batch in which both views are made from the images [n, C, H, W]; no copy."""
    return images[:, None].expand(-1, 2, -1, -1, -1)


class FileSource(Source):
    """Image files, decoded and cropped by worker processes.

    Crops are taken from the image at its own size; the other augmentations run on the device.

    Args:
        files: The files.
        config: The run, resolved.
        augment: As for `Source`, of the crops; None: the run's augmentation.
        job: As for `Source`.
    """

    def __init__(
        self,
        files: LazyImages,
        config: ResolvedConfig,
        augment: MakeViews | None = None,
        job: Job | None = None,
    ) -> None:
        uncropped = dataclasses.replace(config.augment, crop_probability=0.0)
        augment = augment or Augment(uncropped, config.side)
        super().__init__(len(files), config, augment, job)
        self._files = files

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Tensor]:
        """Yield batches; see `Source`."""
        config, order = self._config, self._order(epoch)
        crops = _CropPairs(self._files, config.augment, config.side, config.seed, epoch)
        loader: DataLoader[Tensor | DataError] = DataLoader(
            crops,
            order.shape[1],
            sampler=order[skip:].flatten().tolist(),
            num_workers=config.workers,
            multiprocessing_context=_START if config.workers > 0 else None,
            collate_fn=_collate,
            worker_init_fn=_ignore_signals,
            pin_memory=torch.device(config.device).type == "cuda",
            generator=generator(0),  # otherwise the loader draws from the global random state
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch.to(config.device, non_blocking=True)


@dataclass(frozen=True)
class _CropPairs(TorchDataset["Tensor | DataError"]):
    """Two random crops of each file, [2, 3, side, side] uint8, which depend on the epoch.

    The error of a broken file is returned: an error raised in a worker would arrive as a traceback.
    """

    files: LazyImages
    augment: AugmentConfig
    side: int
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | DataError:
        random = generator(derive_seed(self.seed, Stream.CROPS, self.epoch, index))
        try:
            with self.files.open(index) as picture:
                crops = crop_picture(picture, 2, self.augment, self.side, random)
        except DataError as error:
            return DataError(str(error))  # without its cause, which may not be picklable
        return torch.stack(crops)


def _ignore_signals(worker: int) -> None:
    """Leave signals to the process that trains, which finishes its step before it ends a worker.

    A terminal and torchrun send them to all processes of a group.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _collate(crops: list[Tensor | DataError]) -> Tensor | DataError:
    """Return the batch of crops, or the first error among them."""
    good = []
    for crop in crops:
        if isinstance(crop, DataError):
            return crop
        good.append(crop)
    batch: Tensor = default_collate(good)
    return batch


@contextmanager
def lost_workers() -> Iterator[None]:
    """Turn the error of a worker process that was killed into a WorkerError.

    A signal handler of torch raises it at any point of the main process.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerError(
            "a process that decodes images was killed, probably because memory ran out: try fewer "
            "workers, or a smaller batch_size"
        ) from error


def epoch_order(images: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return the rows of an epoch's batches, [steps, N], on the CPU."""
    random = generator(derive_seed(seed, Stream.ORDER, epoch))
    order = torch.randperm(images, generator=random)
    return order[: images // batch_size * batch_size].view(-1, batch_size)


def random_views(
    images: Images, augment: Augment, device: torch.device
) -> Callable[[Tensor, Generator], Tensor]:
    """Return the function of rows [b] and a random generator to views, on the device.

    Args:
        images: [n, C, H, W] uint8, or files, whose crops are taken from the image at its own size.
        augment: The augmentation.
        device: Device on which the views are made, except for the crops of files.
    """
    if isinstance(images, Tensor):
        return lambda rows, random: augment(images[rows].to(device), random)
    uncropped = Augment(dataclasses.replace(augment.config, crop_probability=0.0), augment.size)

    def views(rows: Tensor, random: Generator) -> Tensor:
        seeds = torch.randint(2**63 - 1, (len(rows),), generator=random)
        crops = crop_files(images, rows, augment.config, seeds)
        return uncropped(crops.to(device), random)

    return views
