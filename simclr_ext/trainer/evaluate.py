"""How good is a representation? Linear probe and k-NN on frozen features, with few labels and all.

One protocol for every representation, so that their rows of the table can be compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from simclr_ext.trainer.data import FolderData, ImageData
from simclr_ext.trainer.features import Features, Labels, encode, pixels
from simclr_ext.trainer.knn import nearest_neighbours
from simclr_ext.trainer.ranking import rank

__all__ = [
    "Accuracy",
    "EvaluationWarning",
    "Features",
    "Labels",
    "Scores",
    "draw_labels",
    "encode",
    "evaluate",
    "linear_probe",
    "nearest_neighbours",
    "pixels",
    "pixels_fit",
    "probe_accuracies",
    "rank_linearly",
    "standardise",
]

LABELS_PER_CLASS = 5
DRAWS = 10
PROBE_C = 10.0  # scikit-learn's inverse of the L2 penalty
_ROWS = 65536  # of the features whose mean and deviation are summed up at a time, in float64


class EvaluationWarning(UserWarning):
    """Something is left out of an evaluation."""


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


def evaluate(train: Features, test: Features, data: ImageData | FolderData, seed: int) -> Scores:
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
    few = [
        probe_accuracies(train[rows], train_labels[rows], test, test_labels)
        for rows in draw_labels(train_labels, LABELS_PER_CLASS, DRAWS, seed)
    ]
    linear, knn = zip(*few, strict=True)
    linear_all, knn_all = probe_accuracies(train, train_labels, test, test_labels)
    return Scores(Accuracy(linear), Accuracy(knn), Accuracy((linear_all,)), Accuracy((knn_all,)))


def probe_accuracies(
    train: Features, labels: Labels, test: Features, expected: Labels
) -> tuple[float, float]:
    """Return the test accuracies of a linear probe and of k-NN.

    Args:
        train: Standardised features of labelled images, [n, dim].
        labels: [n].
        test: Features of the test images, standardised alike, [m, dim].
        expected: [m].
    """
    linear = linear_probe(train, labels, test)
    knn = nearest_neighbours(train, labels, test)
    return float(np.mean(linear == expected)), float(np.mean(knn == expected))


def pixels_fit(data: ImageData | FolderData) -> bool:
    """Return whether raw pixels can be features; a warning says why not.

    All features of a part are in memory at once, but an encoder's are far smaller than its images.
    """
    if isinstance(data, FolderData) and data.too_large is not None:
        text = f"raw pixels are left out: {data.too_large}"
        warnings.warn(text, EvaluationWarning, stacklevel=2)
        return False
    return True


def draw_labels(labels: Labels, per_class: int, draws: int, seed: int) -> Iterator[Labels]:
    """Yield the rows of `per_class` random images of every class (or all, if there are fewer)."""
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(draws):
        chosen = [random.choice(m, min(per_class, len(m)), replace=False) for m in members]
        yield np.concatenate(chosen)


def standardise(train: Features, test: Features) -> tuple[Features, Features]:
    """Return both with the mean and deviation of `train` taken out, divided by sqrt(dimension)."""
    scaler = StandardScaler()
    for start in range(0, len(train), _ROWS):
        scaler.partial_fit(train[start : start + _ROWS])
    # The root makes rows about 1 long, so that one C means the same at 64 and at 3,072 dimensions.
    root = np.float32(train.shape[1] ** 0.5)
    scaled: tuple[Features, Features] = scaler.transform(train), scaler.transform(test)
    for features in scaled:
        features /= root
    return scaled


def linear_probe(train: Features, labels: Labels, test: Features, c: float = PROBE_C) -> Labels:
    """Return the test labels [m] predicted by logistic regression; see `rank_linearly`."""
    return rank_linearly(train, labels, test, c)[:, 0]


def rank_linearly(train: Features, labels: Labels, test: Features, c: float = PROBE_C) -> Labels:
    """Return the classes of test images by L2-regularised logistic regression (appendix B.8).

    Args:
        train: [n, dim].
        labels: [n]; classes that are not among them are never predicted.
        test: [m, dim].
        c: Inverse of the L2 penalty.

    Returns:
        [m, 5], the likeliest first, or fewer if `labels` has fewer classes.
    """
    probe = LogisticRegression(C=c, max_iter=2000).fit(train, labels)
    scores = torch.from_numpy(probe.decision_function(test))
    if scores.ndim == 1:  # of two classes: the second's, while the first's is 0
        scores = torch.stack([torch.zeros_like(scores), scores], dim=1)
    ranking: Labels = probe.classes_[rank(scores)]
    return ranking
