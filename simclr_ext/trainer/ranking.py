"""What a classifier predicts first, second, ..., and how often the label is among the first."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from simclr_ext.trainer.features import Labels

TOP = 5  # with top-1, what the paper gives for ImageNet (section 6)


def rank(scores: Tensor) -> Labels:
    """Return the classes of the highest scores, best first, of equal ones the lower first.

    Args:
        scores: [m, classes]; -inf: not predicted at all.

    Returns:
        [m, 5], or fewer if there are fewer classes; -1 where no class is left to predict.

    Example:
        >>> import torch
        >>> rank(torch.tensor([[0.1, 0.7, 0.2], [0.5, -torch.inf, 0.5]])).tolist()
        [[1, 2, 0], [0, 2, -1]]
    """
    ordered, classes = scores.detach().sort(dim=1, descending=True, stable=True)
    predicted = ordered[:, :TOP] > -np.inf
    ranking: Labels = classes[:, :TOP].where(predicted, -1).cpu().numpy()
    return ranking


def accuracy(ranking: Labels, labels: Labels, first: int = 1) -> float:
    """Return the share of rows [m, k] whose label [m] is among the `first` of them.

    Example:
        >>> accuracy(np.array([[1, 2], [0, 1]]), np.array([2, 0]))
        0.5
        >>> accuracy(np.array([[1, 2], [0, 1]]), np.array([2, 0]), first=2)
        1.0
    """
    return float(np.mean((ranking[:, :first] == labels[:, None]).any(axis=1)))
