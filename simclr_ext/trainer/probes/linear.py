"""Linear evaluation: a linear classifier on frozen h.

Source: SimCLR (arXiv 2002.05709), appendices B.6 (SGD) and B.8 (logistic regression by L-BFGS).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Generator, Tensor, nn

from simclr_ext.options.errors import DataError, DivergedError
from simclr_ext.trainer.config.commands import SgdConfig
from simclr_ext.trainer.data import Images
from simclr_ext.trainer.data.split import held_out
from simclr_ext.trainer.probes.classifier import rank_images, train_classifier
from simclr_ext.trainer.probes.features import Features, Labels
from simclr_ext.trainer.probes.scores import rank
from simclr_ext.trainer.views.augment import Augment
from simclr_ext.trainer.views.batches import random_views

_HELD_OUT = 0.2  # share of the training images of every class on which C is chosen
PROBE_C = 10.0  # scikit-learn's inverse of the L2 penalty
_ROWS = 65536  # summed at a time, in float64, for the mean and deviation of features


def lbfgs_probe(
    train: Features, labels: Labels, test: Features, strengths: Sequence[float], seed: int
) -> tuple[Labels, float]:
    """Return ranked test labels by logistic regression on standardized features, and its C.

    Args:
        train: [n, dim].
        labels: [n].
        test: [m, dim].
        strengths: Values of C, scikit-learn's inverse of the L2 penalty. If there are several, the
            one that predicts a held-out fifth of the training images best is trained on all.
        seed: Seed of that split.

    Returns:
        As `rank_linearly`, and C.

    Raises:
        DataError: As for `rank_linearly`; or no class has two images, one of which to hold out.
    """
    c = strengths[0] if len(strengths) == 1 else _best(train, labels, strengths, seed)
    train, test = standardize(train, test)
    return rank_linearly(train, labels, test, c), c


def _best(train: Features, labels: Labels, strengths: Sequence[float], seed: int) -> float:
    """Return the strength that predicts held-out training images best."""
    tested = held_out(labels, _HELD_OUT, seed)
    if len(tested) == 0:
        found = ", ".join(f"{c:g}" for c in strengths)
        raise DataError(
            f"c must be one number for training images of which no two are of a class, got {found}"
        )
    rows = np.setdiff1d(np.arange(len(labels)), tested)
    part, rest = standardize(train[rows], train[tested])
    accuracies = [
        float(np.mean(linear_probe(part, labels[rows], rest, c) == labels[tested]))
        for c in strengths
    ]
    return strengths[int(np.argmax(accuracies))]


def cached_probe(
    train: Features, labels: Labels, test: Features, classes: int, config: SgdConfig, seed: int
) -> Labels:
    """Return ranked test labels, [m, 5], by a linear classifier trained by SGD on features."""
    features = torch.from_numpy(train)
    linear = linear_classifier(train.shape[1], classes, seed)

    def inputs(rows: Tensor, _: Generator) -> Tensor:
        return features[rows]

    train_classifier(linear, inputs, torch.from_numpy(labels), config, seed)
    return rank(linear(torch.from_numpy(test)))


def augmented_probe(
    encoder: nn.Module,
    dim: int,
    augment: Augment,
    images: Images,
    labels: Labels,
    test: Images,
    classes: int,
    config: SgdConfig,
    seed: int,
) -> Labels:
    """Return ranked test labels, [m, 5], by a linear classifier trained by SGD on random views.

    Args:
        encoder: Frozen: in evaluation mode, and without gradients.
        dim: Dimension of h.
        augment: The views: crops and flips, see `crop_and_flip`.
        images: [n, C, H, W] uint8, or files.
        labels: [n].
        test: [m, C, H, W] uint8, or files.
        classes: Number of classes.
        config: The training.
        seed: Seed of weights, order and views.
    """
    device = next(encoder.parameters()).device
    encoder.eval()
    linear = linear_classifier(dim, classes, seed).to(device)
    views = random_views(images, augment, device)

    def inputs(rows: Tensor, generator: Generator) -> Tensor:
        with torch.no_grad():
            h: Tensor = encoder(views(rows, generator))
        return h

    train_classifier(linear, inputs, torch.from_numpy(labels).to(device), config, seed)
    return rank_images(nn.Sequential(encoder, linear), test, augment.size)


def linear_classifier(dim: int, classes: int, seed: int) -> nn.Linear:
    """Return a linear classifier; equal seeds give equal initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(dim, classes)


def standardize(train: Features, test: Features) -> tuple[Features, Features]:
    """Return both standardized by the mean and deviation of `train`, divided by sqrt(dimension).

    Raises:
        DivergedError: A feature is not finite.
    """
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise DivergedError("the features of some images are not finite")
    scaler = StandardScaler()
    for start in range(0, len(train), _ROWS):
        scaler.partial_fit(train[start : start + _ROWS])
    # The root gives rows a norm of about 1, so that C means the same at 64 and 3,072 dimensions.
    root = np.float32(train.shape[1] ** 0.5)
    scaled: tuple[Features, Features] = scaler.transform(train), scaler.transform(test)
    for features in scaled:
        features /= root
    return scaled


def linear_probe(train: Features, labels: Labels, test: Features, c: float = PROBE_C) -> Labels:
    """Return the test labels [m] predicted by logistic regression; see `rank_linearly`."""
    return rank_linearly(train, labels, test, c)[:, 0]


def rank_linearly(train: Features, labels: Labels, test: Features, c: float = PROBE_C) -> Labels:
    """Return the classes of test images by L2-regularized logistic regression (appendix B.8).

    Args:
        train: [n, dim].
        labels: [n]; classes that are not among them are never predicted.
        test: [m, dim].
        c: Inverse of the L2 penalty.

    Returns:
        [m, 5], the likeliest first, or fewer if `labels` has fewer classes.

    Raises:
        DataError: All labels are of one class.
    """
    if np.ptp(labels) == 0:
        raise DataError("a linear probe needs training images of two classes or more, got one")
    probe = LogisticRegression(C=c, max_iter=2000).fit(train, labels)
    scores = torch.from_numpy(probe.decision_function(test))
    if scores.ndim == 1:  # two classes: these are the second's scores, the first's are 0
        scores = torch.stack([torch.zeros_like(scores), scores], dim=1)
    ranking: Labels = probe.classes_[rank(scores)]
    return ranking
