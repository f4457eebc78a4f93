"""Weighted k-NN: a vote of the nearest training images.

Source: Wu et al., arXiv 1805.01978, section 3.4. SimCLR itself does not report k-NN.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext.trainer.probes.features import Features, Labels
from simclr_ext.trainer.probes.scores import rank

NEIGHBORS = 20
TEMPERATURE = 0.07


def find_neighbors(
    train: Features, test: Features, neighbors: int, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Return the training images nearest to every test image, by cosine similarity.

    Args:
        train: [n, dim].
        test: [m, dim].
        neighbors: k; n if there are fewer.
        chunk: Test images at a time, with eight times as many training images: only [chunk,
            8 chunk] similarities are in memory, for any number of images, and no copy of `train`.

    Returns:
        Similarities [m, k], largest first, and the rows of `train` [m, k].

    Example:
        >>> import numpy as np
        >>> train = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
        >>> find_neighbors(train, train[:1], neighbors=2)[1].tolist()
        [[0, 2]]
    """
    keys, queries = torch.from_numpy(train), torch.from_numpy(test)
    found = [_search(part, keys, neighbors, 8 * chunk) for part in torch.split(queries, chunk)]
    similarities, rows = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(rows)


def other_neighbors(train: Features, test: Features, own: Tensor, neighbors: int) -> Tensor:
    """Return the rows of the training images nearest to every query, without the query itself.

    Args:
        train: [n, dim].
        test: The queries, [m, dim].
        own: Row of the training image that each query is, [m] int64; -1: none.
        neighbors: k; n - 1 if there are fewer.

    Returns:
        [m, k], nearest first.

    Example:
        >>> import numpy as np
        >>> train = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]], np.float32)
        >>> other_neighbors(train, train, torch.arange(3), 1).tolist()
        [[2], [2], [0]]
    """
    _, rows = find_neighbors(train, test, neighbors + 1)
    itself = rows == own[:, None]
    itself[:, -1] |= ~itself.any(dim=1)  # it may be missing among more equal rows than neighbors
    return rows[~itself].view(len(rows), -1)


def _search(queries: Tensor, keys: Tensor, neighbors: int, chunk: int) -> tuple[Tensor, Tensor]:
    """Return the neighbors of queries among keys, merged chunk by chunk."""
    queries = F.normalize(queries, dim=1)
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(keys), chunk):
        similarities = queries @ F.normalize(keys[start : start + chunk], dim=1).T
        nearest, columns = similarities.topk(min(neighbors, similarities.shape[1]), dim=1)
        best, rows = torch.cat([best, nearest], dim=1), torch.cat([rows, start + columns], dim=1)
        best, kept = best.topk(min(neighbors, best.shape[1]), dim=1)
        rows = rows.gather(1, kept)
    return best, rows


def nearest_neighbors(
    train: Features,
    labels: Labels,
    test: Features,
    neighbors: int = NEIGHBORS,
    temperature: float = TEMPERATURE,
    chunk: int = 1024,
) -> Labels:
    """Return the test labels [m] predicted by a vote of the nearest; see `rank_by_neighbors`."""
    return rank_by_neighbors(train, labels, test, neighbors, temperature, chunk)[:, 0]


def rank_by_neighbors(
    train: Features,
    labels: Labels,
    test: Features,
    neighbors: int = NEIGHBORS,
    temperature: float = TEMPERATURE,
    chunk: int = 1024,
) -> Labels:
    """Return the classes that the nearest training images vote for, most votes first.

    A neighbor of cosine similarity s votes with weight exp(s / temperature).

    Args:
        train: [n, dim].
        labels: [n].
        test: [m, dim].
        neighbors: k; at most n of them vote.
        temperature: Temperature of the votes.
        chunk: See `find_neighbors`.

    Returns:
        [m, 5], or fewer if there are fewer classes; -1 where no further class has a vote.
    """
    targets = torch.from_numpy(labels)
    similarities, rows = find_neighbors(train, test, neighbors, chunk)
    # Subtracting the largest keeps the exponential in range, and the nearest's vote nonzero.
    weights = ((similarities - similarities[:, :1]) / temperature).exp()
    votes = weights.new_full((len(test), int(targets.max()) + 1), -torch.inf)
    votes.scatter_(1, targets[rows], 0.0).scatter_add_(1, targets[rows], weights)
    return rank(votes)
