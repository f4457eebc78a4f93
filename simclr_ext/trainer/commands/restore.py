"""The state of a resumed run, and whether its data set is still the same."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping
from typing import Any

from simclr_ext.options.errors import CheckpointError, ConfigError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Part
from simclr_ext.trainer.model.checkpoint import Checkpoint
from simclr_ext.trainer.training.health import TrainingWarning
from simclr_ext.trainer.training.run_folder import RunFolder
from simclr_ext.trainer.training.state import Training
from simclr_ext.trainer.views.batches import Source


def restore(
    training: Training,
    checkpoint: Checkpoint,
    folder: RunFolder,
    source: Source,
    images: Part,
    config: ResolvedConfig,
) -> None:
    """Put a training into the state of a checkpoint, if the data set is still the run's.

    Args:
        training: The state before the first step, which is changed.
        checkpoint: That of the run.
        folder: The run folder, for messages.
        source: Batches of what the data set is now.
        images: The training images of what it is now.
        config: The run, with the options that were changed.

    Raises:
        CheckpointError: The images are others, or the state is damaged or of another network.
        ConfigError: The run has reached more epochs than it is to have.
    """
    state, before = checkpoint.training, checkpoint.config
    if state is None:
        raise CheckpointError(f"{folder.path}: checkpoint.pt has no state to resume from")
    _compare_images(state, folder, source, images, config)
    if config.channels != before.channels:
        raise CheckpointError(
            f"{folder.path}: the run's images have {before.channels} channels, the data set now "
            f"has {config.channels}"
        )
    try:
        training.load_state_dict(state)
        if training.step < 0 or len(training.epochs) != training.step // source.steps:
            raise ValueError(f"step {training.step} and {len(training.epochs)} epochs")
    except Exception as error:  # what a program wrote may raise any exception
        reason = textwrap.shorten(str(error), 200)
        raise CheckpointError(
            f"{folder.path}: the state in checkpoint.pt does not fit the run ({reason})"
        ) from error
    if training.step > config.epochs * source.steps:
        raise ConfigError(
            f"epochs must be at least {-(-training.step // source.steps)}, the epoch that the run "
            f"has reached, got {config.epochs}"
        )


def _compare_images(
    state: Mapping[str, Any],
    folder: RunFolder,
    source: Source,
    images: Part,
    config: ResolvedConfig,
) -> None:
    """Raise CheckpointError if a resumed run has other training images; warn of other pixels."""
    count = state.get("images")
    skip = config.images.on_broken == "skip"
    if skip and isinstance(count, int):
        # Without broken images the order is another one, but not the number of steps.
        same = count // config.batch_size == source.steps
    else:
        same = count == source.images
    if not same:
        raise CheckpointError(
            f"{folder.path}: the run has {count} training images, the data set now has "
            f"{source.images}"
        )
    now = images.marks
    if not skip and state.get("ids", now["ids"]) != now["ids"]:
        raise CheckpointError(
            f"{folder.path}: the training images are no longer those of the run, which images.csv "
            "lists: bring them back, or start a new run"
        )
    if None not in (state.get("pixels"), now["pixels"]) and state["pixels"] != now["pixels"]:
        text = "the pixels of the training images have changed since the run began"
        warnings.warn(f"{folder.path}: {text}", TrainingWarning, stacklevel=2)
