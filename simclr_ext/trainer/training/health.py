"""Is the training healthy? Warnings, k-NN on the way, the progress bar."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.knn import nearest_neighbors
from simclr_ext.trainer.seeds import Stream, derive_seed, generator
from simclr_ext.trainer.training.state import Epoch, Training

_KEYS, _QUERIES = 5000, 1000  # training images that vote, and that are voted on
_HELD_OUT = 5  # one training image in so many is voted on, at most


class TrainingWarning(UserWarning):
    """The training does not look healthy."""


def complaints(epoch: Epoch, batch_size: int) -> dict[str, str]:
    """Return what is wrong with an epoch: a short name of each complaint, and the sentence."""
    found = {}
    chance = math.log(2 * batch_size - 1)
    if epoch.loss > chance - 0.02:
        found["chance"] = (
            f"the loss, {epoch.loss:.3f}, is at its chance level, ln(2N - 1) = {chance:.3f}: try "
            "another learning rate, or weaker augmentations"
        )
    if epoch.embedding_std < 0.1 or epoch.effective_rank < 2:
        found["collapse"] = (
            f"the embeddings collapse: their spread is {epoch.embedding_std:.3f} of 1, their "
            f"effective rank {epoch.effective_rank:.1f}: try a lower learning rate or temperature"
        )
    return found


def warn_of_new_complaints(epochs: Sequence[Epoch], batch_size: int, warmup_epochs: int) -> None:
    """Warn of what is wrong since the last epoch; during the warmup, the loss may be at chance."""
    if len(epochs) <= max(1, warmup_epochs):
        return
    before = {} if len(epochs) == 2 else complaints(epochs[-2], batch_size)
    for name, sentence in complaints(epochs[-1], batch_size).items():
        if name not in before:
            text = f"epoch {epochs[-1].epoch}: {sentence}"
            warnings.warn(text, TrainingWarning, stacklevel=2)


class Knn:
    """k-NN accuracy of held-out training images by the vote of other training images.

    The test images have no part in it, so that the checkpoint that it finds best is not chosen by
    them.

    Args:
        data: The data set; up to 5,000 of its training images vote on up to 1,000 others.
        side: Side in pixels to which images are resized.
        seed: The run's.

    Raises:
        DataError: There are fewer than five training images.
    """

    def __init__(self, data: Dataset, side: int, seed: int) -> None:
        labels = data.train_labels
        if len(labels) < _HELD_OUT:
            raise DataError(
                f"one training image in {_HELD_OUT} is held out, and there are {len(labels)}"
            )
        random = generator(derive_seed(seed, Stream.HELD_OUT))
        rows = torch.randperm(len(labels), generator=random)[: _KEYS + _QUERIES]
        self._queries = min(_QUERIES, len(rows) // _HELD_OUT)
        self._labels = labels[rows].numpy()
        self._side = side
        self._images = data.train_images[rows]

    def __call__(self, model: SimCLR) -> float:
        """Return the accuracy of a model's h."""
        features = encode(model.encoder, self._images, self._side)
        held_out = self._queries
        predicted = nearest_neighbors(
            features[held_out:], self._labels[held_out:], features[:held_out]
        )
        return float(np.mean(predicted == self._labels[:held_out]))


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """Images, images per second and time left, with loss, contrastive accuracy, T and rate."""

    def __init__(self, config: ResolvedConfig, steps: int, done: int) -> None:
        # A log file gets a line now and then, a terminal a bar that moves.
        seconds = 0.2 if sys.stderr.isatty() else 20
        super().__init__(
            desc="training",
            unit=" images",
            unit_scale=True,
            mininterval=seconds,
            total=steps * config.batch_size,
            initial=done * config.batch_size,
        )
        self._config = config

    def advance(self, training: Training) -> None:
        """Show a step more."""
        config, epochs = self._config, training.epochs
        values = {
            "epoch": f"{len(epochs)}/{config.epochs}",
            **{name: f"{value:.3f}" for name, value in training.latest.items()},
            "T": f"{config.temperature:g}",
            "lr": f"{training.optimizer.param_groups[0]['lr']:.3g}",
        }
        if knn := [e.knn_accuracy for e in epochs if e.knn_accuracy is not None]:
            values["knn"] = f"{knn[-1]:.3f}"
        self.set_postfix(values, refresh=False)
        self.update(config.batch_size)
