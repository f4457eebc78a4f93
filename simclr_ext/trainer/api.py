"""The trainer's API: a function for each command.

The module is importable without the trainer's extra, like the configurations that the functions
take: each function imports what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simclr_ext.options.errors import ConfigError
from simclr_ext.options.extras import require_trainer
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.config.commands import (
    CheckConfig,
    EmbedConfig,
    EvalConfig,
    ExportConfig,
    FinetuneConfig,
    NeighborsConfig,
    PagesConfig,
)
from simclr_ext.trainer.training.callbacks import Callback

if TYPE_CHECKING:
    from torch import Tensor, nn

    from simclr_ext.trainer.commands.check import CheckResult
    from simclr_ext.trainer.commands.embed import EmbedResult
    from simclr_ext.trainer.commands.eval import EvalResult
    from simclr_ext.trainer.commands.export import ExportResult
    from simclr_ext.trainer.commands.finetune import FinetuneResult
    from simclr_ext.trainer.commands.neighbors import NeighborsResult
    from simclr_ext.trainer.commands.pages import PagesResult
    from simclr_ext.trainer.model.encoders import Encoder
    from simclr_ext.trainer.training.result import TrainResult
    from simclr_ext.trainer.views.custom import MakeViews


def train(
    config: TrainConfig,
    *,
    data: object = None,
    encoder: nn.Module | None = None,
    augment: MakeViews | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train SimCLR, compare the encoder with raw pixels and the untrained one, write the results.

    In a process of torchrun, or after `torch.distributed.init_process_group`, all processes train
    together and return the same result; see docs/processes.md.

    Args:
        config: The run. With `threads` set, PyTorch has that many threads until the run ends.
        data: Images in place of `config.data`: a map-style `torch.utils.data.Dataset` of training
            images, or a tuple of two, the second of test images. Items are PIL images or uint8
            tensors [C, H, W], or tuples (image, label); labels are optional. The configuration then
            says "custom".
        encoder: An encoder in place of `config.model.encoder`: a module from images
            [B, C, side, side] float32 in [0, 1] to h [B, dim]. It is copied; the copy starts from
            its weights. The configuration then says "custom".
        augment: An augmentation in place of `config.augment`: a function of images [n, C, H, W]
            uint8 and a `torch.Generator` to a view of each, [n, C, side, side] float32 in [0, 1];
            it draws every random number from the generator. `each_image` makes one from a
            transform of single images. The configuration then says `augment.custom`.
        callbacks: Called during the run; they may end the training early. Of several processes, on
            the first one.

    Returns:
        The run folder, the resolved configuration, the trained model, every epoch's measurements
        and the test accuracies.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        DataError: `config.data` cannot be read, or has too few images for a batch.
        DeviceError: `config.device` cannot be used.
        BackendUnavailableError: The loss cannot be computed on this device.
        ConfigError: `encoder` or `augment` does not do what it should.
        MissingArgumentError: The configuration says that it has an own encoder or augmentation, and
            it is not given.
        RunFolderError: The run folder exists and is not empty, or cannot be created.
        DivergedError: The loss or a weight is not finite.
        JobError: Another process has failed or ended, or has another configuration or images.
    """
    _require(config, TrainConfig)
    from simclr_ext.trainer.commands.train import run_train

    return run_train(config, callbacks, encoder, augment, data)


def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    device: str | None = None,
    threads: int | Literal["keep"] | None = "keep",
    workers: int | None = None,
    on_broken: Literal["stop", "skip"] | None = None,
    rewarm: float | None = None,
    data: object = None,
    encoder: nn.Module | None = None,
    augment: MakeViews | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Resume an interrupted run from its last checkpoint, with the configuration stored in it.

    On a CPU, with the run's number of threads, the result is bit-identical to that of an
    uninterrupted run. A run that was complete is evaluated again; one that a callback ended early
    is continued.

    Args:
        folder: The run folder.
        epochs: New total number of epochs; the learning rate then decays over it, after the warmup
            that the run began with, and jumps to this curve. None, here and below: the run's value.
        device: New device.
        threads: New number of CPU threads; None: PyTorch's own choice; "keep": the run's.
        workers: New number of processes that decode images.
        on_broken: What becomes of images that cannot be read; see `ImagesConfig`.
        rewarm: Epochs in which the learning rate moves from that of the last step to the curve of
            the new number of epochs, on a straight line, instead of a jump. None: it jumps, with a
            warning, unless a second warmup has begun before.
        data: The images that the run was started with, if they were given from Python.
        encoder: The module that the run was started with, if it was; its weights are replaced.
        augment: The augmentation that the run was started with, if it was.
        callbacks: As for `train`.

    Returns:
        As `train`.

    Raises:
        CheckpointError: The folder is not a run folder, its checkpoint is missing or damaged,
            config.yaml was changed, the data have changed, or the weights do not fit `encoder`.
        DataError: As for `train`; its other errors as well.
    """
    require_trainer()
    from simclr_ext.trainer.commands.train import run_resume

    given: dict[str, Any] = {
        "epochs": epochs,
        "device": device,
        "workers": workers,
        "on_broken": on_broken,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if threads != "keep":
        changes["threads"] = threads
    return run_resume(folder, changes, rewarm, callbacks, encoder, augment, data)


def check_data(config: CheckConfig) -> CheckResult:
    """List the images of a data set that cannot be read, and those with the same content.

    Args:
        config: Data set, and what is looked for.

    Returns:
        What is wrong.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        DataError: There is no such data set, or it has no images.
    """
    _require(config, CheckConfig)
    from simclr_ext.trainer.commands.check import run_check

    return run_check(config)


def each_image(transform: Callable[[Tensor], Tensor]) -> MakeViews:
    """Return an augmentation for `train` that applies a transform to every image by itself.

    PyTorch's random state, from which torchvision's transforms draw, is seeded from the
    augmentation's generator, and restored.

    Args:
        transform: Maps an image [C, H, W] uint8 to a view [C, side, side], uint8 or float32 in
            [0, 1].

    Example:
        >>> import torch
        >>> from torchvision.transforms import v2
        >>> augment = each_image(v2.RandomResizedCrop(16))
        >>> images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.Generator()).shape
        torch.Size([4, 3, 16, 16])
    """
    require_trainer()
    from simclr_ext.trainer.views.custom import each_image

    return each_image(transform)


def evaluate_checkpoint(config: EvalConfig, *, encoder: nn.Module | None = None) -> EvalResult:
    """Evaluate the frozen features of one or more checkpoints, on their data set or another one.

    Args:
        config: Checkpoints, data set and probes.
        encoder: The module that the model was trained with, if it is one of your own.

    Returns:
        The test accuracies, which are also written as JSON and Markdown.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        CheckpointError: A checkpoint is missing or cannot be read.
        DataError: The data set cannot be read, or does not suit the model.
        DeviceError: `config.device` cannot be used.
        RunFolderError: The folder of the results cannot be created.
        DivergedError: A probe's loss is not finite.
    """
    _require(config, EvalConfig)
    from simclr_ext.trainer.commands.eval import run_eval

    return run_eval(config, encoder)


def finetune_checkpoint(
    config: FinetuneConfig, *, encoder: nn.Module | None = None
) -> FinetuneResult:
    """Train all weights of a checkpoint's encoder, and a classifier on it, with labels.

    Args:
        config: Checkpoint, data set, share of the labels and training.
        encoder: The module that the model was trained with, if it is one of your own.

    Returns:
        The test accuracy, which is also written as JSON and Markdown, beside the classifier.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        CheckpointError: The checkpoint is missing or cannot be read.
        DataError: The data set cannot be read, or does not suit the model.
        DeviceError: `config.device` cannot be used.
        RunFolderError: The folder of the results cannot be created.
        DivergedError: The loss is not finite.
    """
    _require(config, FinetuneConfig)
    from simclr_ext.trainer.commands.finetune import run_finetune

    return run_finetune(config, encoder)


def embed_images(config: EmbedConfig, *, encoder: nn.Module | None = None) -> EmbedResult:
    """Write the representations of all images of a data set, with ids and labels.

    Args:
        config: Checkpoint, data set and format.
        encoder: The module that the model was trained with, if it is one of your own.

    Returns:
        The files.

    Raises:
        MissingExtraError: The `trainer` extra, or a package for the format, is not installed.
        CheckpointError: The checkpoint is missing or cannot be read.
        DataError: The data set cannot be read, or does not suit the model.
        DeviceError: `config.device` cannot be used.
        RunFolderError: The folder of the results cannot be created.
    """
    _require(config, EmbedConfig)
    from simclr_ext.trainer.commands.embed import run_embed

    return run_embed(config, encoder)


def export_encoder(config: ExportConfig, *, encoder: nn.Module | None = None) -> ExportResult:
    """Write the encoder for other programs; each file is loaded back and compared with it.

    Args:
        config: Checkpoint and formats.
        encoder: The module that the model was trained with, if it is one of your own.

    Returns:
        The files, with their largest deviation from the encoder.

    Raises:
        MissingExtraError: The `trainer` extra, or a package for a format, is not installed.
        CheckpointError: The checkpoint is missing or cannot be read.
        ExportError: The output of a written file differs from the encoder's.
        RunFolderError: The folder of the results cannot be created.
    """
    _require(config, ExportConfig)
    from simclr_ext.trainer.commands.export import run_export

    return run_export(config, encoder)


def load_encoder(path: str | Path, *, encoder: nn.Module | None = None) -> Encoder:
    """Return a trained encoder: a module from images to h = f(x).

    Args:
        path: A run folder, a checkpoint, or a folder that `export --formats hub` wrote.
        encoder: The module that the model was trained with, if it is one of your own.

    Returns:
        The encoder on the CPU, in evaluation mode. It maps images [B, channels, side, side] float32
        in [0, 1] to h [B, dim]; `channels`, `side` and `dim` are attributes of it.

    Raises:
        MissingExtraError: The `trainer` extra, timm or safetensors is needed and not installed.
        CheckpointError: The file is missing or cannot be read.
        MissingArgumentError: `encoder` is needed, and None.

    Example:
        >>> encoder = load_encoder("runs/my-run")  # doctest: +SKIP
        >>> images = torch.zeros(1, encoder.channels, encoder.side, encoder.side)  # doctest: +SKIP
        >>> encoder(images).shape == (1, encoder.dim)  # doctest: +SKIP
        True
    """
    require_trainer()
    from simclr_ext.trainer.model.trained import load_encoder

    return load_encoder(path, encoder)


def draw_pages(config: PagesConfig, *, encoder: nn.Module | None = None) -> PagesResult:
    """Draw t-SNE maps, one of them interactive, and a page of images with nearest neighbors.

    Args:
        config: Checkpoint, data set, and how much to draw.
        encoder: The module that the model was trained with, if it is one of your own.

    Returns:
        The files.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        CheckpointError: The checkpoint is missing or cannot be read.
        DataError: The data set cannot be read, or does not suit the model.
        DeviceError: `config.device` cannot be used.
        RunFolderError: The folder of the results cannot be created.
    """
    _require(config, PagesConfig)
    from simclr_ext.trainer.commands.pages import run_pages

    return run_pages(config, encoder)


def find_neighbors(config: NeighborsConfig, *, encoder: nn.Module | None = None) -> NeighborsResult:
    """Find the training images that are most like others, by cosine similarity of h.

    Args:
        config: Checkpoint, data set, and the images to find neighbors for.
        encoder: As for `evaluate_checkpoint`.

    Returns:
        The neighbors, which are also written as CSV and on a page.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        CheckpointError: The checkpoint is missing or cannot be read.
        DataError: The images cannot be read, or do not suit the model.
        DeviceError: `config.device` cannot be used.
        MissingArgumentError: `encoder` is needed, and None.
        RunFolderError: The folder of the results cannot be created.
    """
    _require(config, NeighborsConfig)
    from simclr_ext.trainer.commands.neighbors import run_neighbors

    return run_neighbors(config, encoder)


def _require(config: object, kind: type) -> None:
    """Raise an error unless the trainer is installed and the configuration is of this kind."""
    require_trainer()
    if not isinstance(config, kind):
        raise ConfigError(f"config must be a {kind.__name__}, got {type(config).__name__}")
