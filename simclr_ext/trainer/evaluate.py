"""How good is a representation? Linear probe and k-NN on frozen features, with few labels and all.

One protocol for every representation, so that their rows of the table can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from simclr_ext.trainer.data import ImageData
from simclr_ext.trainer.image_ops import resize
from simclr_ext.trainer.model import Encoder

Features = NDArray[np.float32]  # [n, dim]
Labels = NDArray[np.int64]  # [n]

LABELS_PER_CLASS = 5
DRAWS = 10
PROBE_C = 10.0  # scikit-learn's inverse of the L2 penalty
# Weighted k-NN with exp(similarity / T) votes: Wu et al., arXiv 1805.01978, section 3.4.
NEIGHBOURS = 20
KNN_TEMPERATURE = 0.07


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


def pixels(images: Tensor) -> Features:
    """Return images [n, C, H, W] uint8 as rows of values in [0, 1], [n, C H W]."""
    rows: Features = (images.flatten(1).float() / 255).numpy()
    return rows


@torch.no_grad()
def encode(encoder: Encoder, images: Tensor, size: int, chunk: int = 512) -> Features:
    """Return h of images, whole and unaugmented.

    Args:
        encoder: Run in evaluation mode, and left in the mode it was in.
        images: [n, C, H, W] uint8, on any device.
        size: Side in pixels to which images are resized.
        chunk: Images at a time.

    Returns:
        [n, dim] float32.
    """
    device = next(encoder.parameters()).device
    training = encoder.training
    encoder.eval()
    parts = [encoder(resize(part.to(device), size)).cpu() for part in torch.split(images, chunk)]
    encoder.train(training)
    features: Features = torch.cat(parts).numpy()
    return features


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
    scaler = StandardScaler().fit(train)
    # The root makes rows about 1 long, so that one C means the same at 64 and at 3,072 dimensions.
    root = np.float32(train.shape[1] ** 0.5)
    train, test = scaler.transform(train) / root, scaler.transform(test) / root
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


def linear_probe(train: Features, labels: Labels, test: Features) -> Labels:
    """Return the test labels predicted by L2-regularised logistic regression (appendix B.8)."""
    probe = LogisticRegression(C=PROBE_C, max_iter=2000).fit(train, labels)
    predicted: Labels = probe.predict(test)
    return predicted


def nearest_neighbours(
    train: Features,
    labels: Labels,
    test: Features,
    neighbours: int = NEIGHBOURS,
    temperature: float = KNN_TEMPERATURE,
    chunk: int = 1024,
) -> Labels:
    """Return the test labels predicted by a vote of the nearest training images.

    A neighbour of cosine similarity s votes with weight exp(s / temperature).

    Args:
        train: [n, dim].
        labels: [n].
        test: [m, dim].
        neighbours: k; at most n of them vote.
        temperature: Temperature of the votes.
        chunk: Test images at a time: [chunk, n] similarities are in memory.

    Returns:
        [m].
    """
    keys = F.normalize(torch.from_numpy(train), dim=1)
    queries = F.normalize(torch.from_numpy(test), dim=1)
    targets = torch.from_numpy(labels)
    classes = int(targets.max()) + 1
    predicted = []
    for part in torch.split(queries, chunk):
        nearest, rows = (part @ keys.T).topk(min(neighbours, len(keys)), dim=1)  # [chunk, k]
        # Minus 1: similarities are at most 1, and the exponential stays in range.
        weights = ((nearest - 1) / temperature).exp()
        votes = weights.new_zeros(len(part), classes).scatter_add_(1, targets[rows], weights)
        predicted.append(votes.argmax(dim=1))
    result: Labels = torch.cat(predicted).numpy()
    return result
