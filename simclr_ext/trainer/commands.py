"""What can be done with a trained model: the functions behind the commands.

Importable without the trainer's extra, like the configurations that they take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simclr_ext.trainer.config.evaluate import EvalConfig, FinetuneConfig
from simclr_ext.trainer.extras import require_extra

if TYPE_CHECKING:
    from simclr_ext.trainer.evaluation import EvalResult
    from simclr_ext.trainer.finetune import FinetuneResult


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
