"""Comparison of representations: linear probe and k-NN on frozen features, with few labels and all.

All representations use the same protocol, so that the rows of the table can be compared.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset, Images
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.probes.features import Features, Labels, encode, pixels
from simclr_ext.trainer.probes.knn import nearest_neighbors
from simclr_ext.trainer.probes.linear import linear_probe, standardize
from simclr_ext.trainer.probes.optional import EvaluationWarning, left_out
from simclr_ext.trainer.probes.scores import Accuracy, Scores
from simclr_ext.trainer.progress import each

LABELS_PER_CLASS = 5
DRAWS = 10


def compare(
    model: SimCLR, initial: Callable[[], SimCLR], data: Dataset, config: ResolvedConfig
) -> dict[str, Scores]:
    """Return the test accuracies of raw pixels, the encoder before training and the trained one.

    A representation that cannot be evaluated is left out, with a warning.

    Args:
        model: The trained model.
        initial: Returns the model before training.
        data: The images and labels.
        config: The run.
    """
    before = functools.cache(lambda: initial().encoder.to(config.device))
    representations: dict[str, Callable[[Images], Features]] = {
        config.start: lambda images: encode(before(), images, config.side),
        "trained encoder": lambda images: encode(model.encoder, images, config.side),
    }
    if pixels_fit(data):
        representations = {"raw pixels": pixels, **representations}
    scores = {}
    for name, represent in each("evaluating", list(representations.items())):
        with left_out(f"the evaluation of {name}"):
            train, test = represent(data.train.images), represent(data.test.images)
            scores[name] = evaluate(train, test, data, config.seed)
    return scores


def evaluate(train: Features, test: Features, data: Dataset, seed: int) -> Scores:
    """Return the test accuracies of a representation.

    Features are standardized by the mean and deviation over all training images (no labels needed),
    and divided by the square root of their dimension. The draws of the few labels depend only on
    the seed: they are the same for every representation.

    Args:
        train: Features of the training images, [n, dim].
        test: Features of the test images, [m, dim].
        data: The labels.
        seed: Seed of the draws.
    """
    train, test = standardize(train, test)
    train_labels, test_labels = data.train.labels.numpy(), data.test.labels.numpy()
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
        train: Standardized features of labeled images, [n, dim].
        labels: [n].
        test: Features of the test images, standardized in the same way, [m, dim].
        expected: Labels of the test images, [m].
    """
    linear = linear_probe(train, labels, test)
    knn = nearest_neighbors(train, labels, test)
    return float(np.mean(linear == expected)), float(np.mean(knn == expected))


def pixels_fit(data: Dataset) -> bool:
    """Return whether raw pixels fit into memory as features; warn if they do not.

    All features of a part are in memory at once; an encoder's are far smaller than its images.
    """
    if data.too_large is not None:
        text = f"raw pixels are left out: {data.too_large}"
        warnings.warn(text, EvaluationWarning, stacklevel=2)
        return False
    return True


def draw_labels(labels: Labels, per_class: int, draws: int, seed: int) -> Iterator[Labels]:
    """Yield the rows of `per_class` random images of every class, or of all if it has fewer."""
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(draws):
        chosen = [random.choice(m, min(per_class, len(m)), replace=False) for m in members]
        yield np.concatenate(chosen)
