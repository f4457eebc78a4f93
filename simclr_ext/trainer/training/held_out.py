"""Accuracy on held-out training images during training, by k-NN and by a linear probe.

Test images are not used, so that they do not influence the choice of the best checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.probes.features import Features, Labels, encode
from simclr_ext.trainer.probes.knn import nearest_neighbors
from simclr_ext.trainer.probes.linear import linear_probe, standardize
from simclr_ext.trainer.probes.optional import left_out
from simclr_ext.trainer.seeds import Stream, derive_seed, generator
from simclr_ext.trainer.training.state import Training

Probe = Callable[[Features, Labels, Features], Labels]

_LABELED, _HELD_OUT = 5000, 1000  # maximum numbers of training images with and without their labels
_SHARE = 5  # at most one training image in 5 is held out


class HeldOut:
    """Measures how well training images predict the classes of held-out ones from h.

    Args:
        data: The data set; up to 5,000 of its training images predict up to 1,000 others.
        config: The run; its `monitor` says which probes are due after which epochs.

    Raises:
        DataError: There are fewer than five training images.
    """

    def __init__(self, data: Dataset, config: ResolvedConfig) -> None:
        train = data.train.labeled
        labels = train.labels
        if len(labels) < _SHARE:
            raise DataError(
                f"one training image in {_SHARE} is held out, and there are {len(labels)}"
            )
        random = generator(derive_seed(config.seed, Stream.HELD_OUT))
        rows = torch.randperm(len(labels), generator=random)[: _LABELED + _HELD_OUT]
        self._held_out = min(_HELD_OUT, len(rows) // _SHARE)
        self._images, self._labels = train.images[rows], labels[rows].numpy()
        self._config = config

    def measure(self, training: Training) -> None:
        """Add the accuracies that are due after an epoch to its measurements.

        A probe that fails is left out, with a warning.
        """
        monitor, done = self._config.monitor, len(training.epochs)
        last = done == self._config.epochs
        every = {"knn": monitor.knn_every, "linear": monitor.linear_every}
        due = [name for name, n in every.items() if n > 0 and (last or done % n == 0)]
        if not due:
            return
        with left_out("the accuracy on held-out images of an epoch"):
            features = encode(training.model.encoder, self._images, self._config.side)
            for name in due:
                label, probe = _PROBES[name]
                with left_out(f"the {label} accuracy of an epoch"):
                    training.measure(**{f"{name}_accuracy": self._accuracy(features, probe)})

    def _accuracy(self, features: Features, probe: Probe) -> float:
        n, labels = self._held_out, self._labels
        return float(np.mean(probe(features[n:], labels[n:], features[:n]) == labels[:n]))


def _predict_linearly(train: Features, labels: Labels, test: Features) -> Labels:
    """Return the test labels by the linear probe of the final evaluation."""
    train, test = standardize(train, test)
    return linear_probe(train, labels, test)


# By name of the measurement: name in warnings, and function of training features, their labels and
# test features.
_PROBES: dict[str, tuple[str, Probe]] = {
    "knn": ("k-NN", nearest_neighbors),
    "linear": ("linear", _predict_linearly),
}
