"""Random choices of images, the same share of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NO_LABEL = -1


def held_out(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Return the rows of a random share of every class, to be test images.

    Images without a label are not among them. Every class keeps an image: its only one, if it has
    one, which is then not tested.

    Args:
        labels: [n]; -1: none.
        share: In (0, 1).
        seed: Seed of the choice.

    Example:
        >>> held_out(np.array([0, 0, 0, 0, 1, -1]), 0.5, seed=0).shape
        (2,)
    """
    rows = np.flatnonzero(labels != NO_LABEL)
    rows = rows[np.bincount(labels[rows])[labels[rows]] > 1]
    return rows[stratified_subset(labels[rows], share, seed, spared=1)]


def count_classes(labels: NDArray[np.int64]) -> int:
    """Return how many different labels there are; NO_LABEL is none."""
    return len(np.unique(labels[labels != NO_LABEL]))


def stratified_subset(
    labels: NDArray[np.int64], share: float, seed: int, spared: int = 0
) -> NDArray[np.int64]:
    """Return the rows, in order, of a random share of every class, at least one of each.

    Args:
        labels: [n]; each class has more than `spared`.
        share: In (0, 1].
        seed: Seed of the choice.
        spared: How many of every class are left out at least.

    Example:
        >>> stratified_subset(np.repeat([0, 1], [100, 10]), 0.1, seed=0).shape
        (11,)
    """
    random = np.random.default_rng(seed)
    chosen = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), len(members) - spared)
        chosen.append(random.choice(members, count, replace=False))
    return np.sort(np.concatenate(chosen))
