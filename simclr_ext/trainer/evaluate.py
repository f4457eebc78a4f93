"""How good is a representation? Linear probe and k-NN on frozen features, with few labels and all.

One protocol for every representation, so that their rows of the table can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from simclr_ext.trainer.data import ImageData
from simclr_ext.trainer.features import Features, Labels, encode, pixels
from simclr_ext.trainer.knn import nearest_neighbours

__all__ = [
    "Accuracy",
    "Features",
    "Labels",
    "Scores",
    "draw_labels",
    "encode",
    "evaluate",
    "linear_probe",
    "nearest_neighbours",
    "pixels",
    "standardise",
]

LABELS_PER_CLASS = 5
DRAWS = 10
PROBE_C = 10.0  # scikit-learn's inverse of the L2 penalty


@dataclass(frozen=True)
class Accuracy:
    """Test accuracy in [0, 1] over one or more draws of the labels."""

    draws: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return float(np.mean(self.draws))

    @property
    def std(self) -> float:
        """Sample standard deviation over the draws; 0 for a single one."""
        return float(np.std(self.draws, ddof=1)) if len(self.draws) > 1 else 0.0


@dataclass(frozen=True)
class Scores:
    """Test accuracies of one representation.

    Attributes:
        linear_few: Linear probe on a few labels per class.
        knn_few: k-NN on the same labels.
        linear_all: Linear probe on all training labels.
        knn_all: k-NN on all training labels.
    """

    linear_few: Accuracy
    knn_few: Accuracy
    linear_all: Accuracy
    knn_all: Accuracy


def evaluate(train: Features, test: Features, data: ImageData, seed: int) -> Scores:
    """Return the test accuracies of a representation.

    Features are standardised by the mean and deviation of all training images, which takes no
    labels, and divided by the root of their dimension. The draws of the few labels depend on the
    seed alone: every representation has the same.

    Args:
        train: Features of the training images, [n, dim].
        test: Features of the test images, [m, dim].
        data: The labels.
        seed: Seed of the draws.
    """
    train, test = standardise(train, test)
    train_labels, test_labels = data.train_labels.numpy(), data.test_labels.numpy()

    def accuracy(predicted: Labels) -> float:
        return float(np.mean(predicted == test_labels))

    linear, knn = [], []
    for rows in draw_labels(train_labels, LABELS_PER_CLASS, DRAWS, seed):
        linear.append(accuracy(linear_probe(train[rows], train_labels[rows], test)))
        knn.append(accuracy(nearest_neighbours(train[rows], train_labels[rows], test)))
    return Scores(
        Accuracy(tuple(linear)),
        Accuracy(tuple(knn)),
        Accuracy((accuracy(linear_probe(train, train_labels, test)),)),
        Accuracy((accuracy(nearest_neighbours(train, train_labels, test)),)),
    )


def draw_labels(labels: Labels, per_class: int, draws: int, seed: int) -> Iterator[Labels]:
    """Yield the rows of `per_class` random images of every class (or all, if there are fewer)."""
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(draws):
        chosen = [random.choice(m, min(per_class, len(m)), replace=False) for m in members]
        yield np.concatenate(chosen)


def standardise(train: Features, test: Features) -> tuple[Features, Features]:
    """Return both with the mean and deviation of `train` taken out, divided by sqrt(dimension)."""
    scaler = StandardScaler().fit(train)
    # The root makes rows about 1 long, so that one C means the same at 64 and at 3,072 dimensions.
    root = np.float32(train.shape[1] ** 0.5)
    return scaler.transform(train) / root, scaler.transform(test) / root


def linear_probe(train: Features, labels: Labels, test: Features, c: float = PROBE_C) -> Labels:
    """Return the test labels predicted by L2-regularised logistic regression (appendix B.8)."""
    probe = LogisticRegression(C=c, max_iter=2000).fit(train, labels)
    predicted: Labels = probe.predict(test)
    return predicted
