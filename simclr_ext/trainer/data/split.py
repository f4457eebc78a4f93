"""Random choices of images, the same share of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_subset(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Return the rows, in order, of a random share of every class, at least one of each.

    Example:
        >>> stratified_subset(np.repeat([0, 1], [100, 10]), 0.1, seed=0).shape
        (11,)
    """
    random = np.random.default_rng(seed)
    chosen = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(share * len(members)))
        chosen.append(random.choice(members, count, replace=False))
    return np.sort(np.concatenate(chosen))
