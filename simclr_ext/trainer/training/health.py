"""Health of the training: warnings, and k-NN accuracy during training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.knn import nearest_neighbors
from simclr_ext.trainer.seeds import Stream, derive_seed, generator
from simclr_ext.trainer.training.state import Epoch

_KEYS, _QUERIES = 5000, 1000  # maximum numbers of training images that vote, and that are held out
_HELD_OUT = 5  # at most one training image in 5 is held out


class TrainingWarning(UserWarning):
    """The training does not look healthy."""


def problems(epoch: Epoch, batch_size: int) -> dict[str, str]:
    """Return what is wrong with an epoch: a short name of each problem, and a sentence."""
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


def warn_of_new_problems(epochs: Sequence[Epoch], batch_size: int, warmup_epochs: float) -> None:
    """Warn of problems that are new since the last epoch; not during the warmup."""
    if len(epochs) <= max(1, warmup_epochs):
        return
    before = {} if len(epochs) == 2 else problems(epochs[-2], batch_size)
    for name, sentence in problems(epochs[-1], batch_size).items():
        if name not in before:
            text = f"epoch {epochs[-1].epoch}: {sentence}"
            warnings.warn(text, TrainingWarning, stacklevel=2)


class Knn:
    """k-NN accuracy of held-out training images by the vote of other training images.

    Test images are not used, so that they do not influence the choice of the best checkpoint.

    Args:
        data: The data set; up to 5,000 of its training images vote on up to 1,000 others.
        side: Side in pixels to which images are resized.
        seed: The run's.

    Raises:
        DataError: There are fewer than five training images.
    """

    def __init__(self, data: Dataset, side: int, seed: int) -> None:
        train = data.train.labeled
        labels = train.labels
        if len(labels) < _HELD_OUT:
            raise DataError(
                f"one training image in {_HELD_OUT} is held out, and there are {len(labels)}"
            )
        random = generator(derive_seed(seed, Stream.HELD_OUT))
        rows = torch.randperm(len(labels), generator=random)[: _KEYS + _QUERIES]
        self._queries = min(_QUERIES, len(rows) // _HELD_OUT)
        self._labels = labels[rows].numpy()
        self._side = side
        self._images = train.images[rows]

    def __call__(self, model: SimCLR) -> float:
        """Return the accuracy of a model's h."""
        features = encode(model.encoder, self._images, self._side)
        held_out = self._queries
        predicted = nearest_neighbors(
            features[held_out:], self._labels[held_out:], features[:held_out]
        )
        return float(np.mean(predicted == self._labels[:held_out]))
