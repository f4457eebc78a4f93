"""What can be done with a trained model: the functions behind the commands.

Importable without the trainer's extra, like the configurations that they take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simclr_ext.trainer.config.evaluate import EvalConfig, FinetuneConfig
from simclr_ext.trainer.config.outputs import EmbedConfig, ExportConfig, PagesConfig
from simclr_ext.trainer.extras import require_extra

if TYPE_CHECKING:
    from simclr_ext.trainer.embed import EmbedResult
    from simclr_ext.trainer.evaluation import EvalResult
    from simclr_ext.trainer.export import ExportResult
    from simclr_ext.trainer.finetune import FinetuneResult
    from simclr_ext.trainer.pages import PagesResult


def evaluate_checkpoint(config: EvalConfig) -> EvalResult:
    """Evaluate the frozen features of one or more checkpoints, on their data set or another.

    Args:
        config: Checkpoints, data set and probes.

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
    require_extra()
    from simclr_ext.trainer.evaluation import run_eval

    return run_eval(config)


def finetune_checkpoint(config: FinetuneConfig) -> FinetuneResult:
    """Train all weights of a checkpoint's encoder, and a classifier on it, with labels.

    Args:
        config: Checkpoint, data set, share of the labels and training.

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
    require_extra()
    from simclr_ext.trainer.finetune import run_finetune

    return run_finetune(config)


def embed_images(config: EmbedConfig) -> EmbedResult:
    """Write the representations of all images of a data set, with ids and labels.

    Args:
        config: Checkpoint, data set and format.

    Returns:
        The files.

    Raises:
        MissingExtraError: The `trainer` extra, or what the format takes, is not installed.
        CheckpointError: The checkpoint is missing or cannot be read.
        DataError: The data set cannot be read, or does not suit the model.
        DeviceError: `config.device` cannot be used.
        RunFolderError: The folder of the results cannot be created.
    """
    require_extra()
    from simclr_ext.trainer.embed import run_embed

    return run_embed(config)


def export_encoder(config: ExportConfig) -> ExportResult:
    """Write the encoder for other programs; each file is loaded back and compared first.

    Args:
        config: Checkpoint and formats.

    Returns:
        The files, with their largest deviation from the encoder.

    Raises:
        MissingExtraError: The `trainer` extra, or what a format takes, is not installed.
        CheckpointError: The checkpoint is missing or cannot be read.
        ExportError: What was written does not compute what the encoder computes.
        RunFolderError: The folder of the results cannot be created.
    """
    require_extra()
    from simclr_ext.trainer.export import run_export

    return run_export(config)


def draw_pages(config: PagesConfig) -> PagesResult:
    """Draw a t-SNE map of the test images, and a page of test images with nearest neighbours.

    Args:
        config: Checkpoint, data set, and how much to draw.

    Returns:
        The files.

    Raises:
        MissingExtraError: The `trainer` extra is not installed.
        CheckpointError: The checkpoint is missing or cannot be read.
        DataError: The data set cannot be read, or does not suit the model.
        DeviceError: `config.device` cannot be used.
        RunFolderError: The folder of the results cannot be created.
    """
    require_extra()
    from simclr_ext.trainer.pages import run_pages

    return run_pages(config)
