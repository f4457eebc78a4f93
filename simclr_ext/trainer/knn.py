"""Weighted k-NN: a vote of the nearest training images.

Source: Wu et al., arXiv 1805.01978, section 3.4; SimCLR has no k-NN, but it is expected today.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext.trainer.features import Features, Labels

NEIGHBOURS = 20
TEMPERATURE = 0.07


def find_neighbours(
    train: Features, test: Features, neighbours: int, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Return the training images nearest to every test image, by cosine similarity.

    Args:
        train: [n, dim].
        test: [m, dim].
        neighbours: k; n if there are fewer.
        chunk: Test images, and eight times as many training images, at a time: [chunk, 8 chunk]
            similarities are in memory, however many images there are.

    Returns:
        Similarities [m, k], largest first, and the rows of `train` [m, k].

    Example:
        >>> import numpy as np
        >>> train = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
        >>> find_neighbours(train, train[:1], neighbours=2)[1].tolist()
        [[0, 2]]
    """
    keys = F.normalize(torch.from_numpy(train), dim=1)
    queries = F.normalize(torch.from_numpy(test), dim=1)
    found = [_search(part, keys, neighbours, 8 * chunk) for part in torch.split(queries, chunk)]
    similarities, rows = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(rows)


def _search(queries: Tensor, keys: Tensor, neighbours: int, chunk: int) -> tuple[Tensor, Tensor]:
    """Return `find_neighbours` of unit queries among unit keys, merged chunk by chunk."""
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(keys), chunk):
        similarities = queries @ keys[start : start + chunk].T
        nearest, columns = similarities.topk(min(neighbours, similarities.shape[1]), dim=1)
        best, rows = torch.cat([best, nearest], dim=1), torch.cat([rows, start + columns], dim=1)
        best, kept = best.topk(min(neighbours, best.shape[1]), dim=1)
        rows = rows.gather(1, kept)
    return best, rows


def nearest_neighbours(
    train: Features,
    labels: Labels,
    test: Features,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
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
        chunk: See `find_neighbours`.

    Returns:
        [m].
    """
    targets = torch.from_numpy(labels)
    similarities, rows = find_neighbours(train, test, neighbours, chunk)
    # Minus 1: similarities are at most 1, and the exponential stays in range.
    weights = ((similarities - 1) / temperature).exp()
    votes = weights.new_zeros(len(test), int(targets.max()) + 1)
    votes.scatter_add_(1, targets[rows], weights)
    result: Labels = votes.argmax(dim=1).numpy()
    return result
