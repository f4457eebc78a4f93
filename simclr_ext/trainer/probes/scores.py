"""Test accuracies, and the ranked predictions that they count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from simclr_ext.trainer.probes.features import Labels

TOP = 5  # the paper reports top-1 and top-5 for ImageNet (section 6)


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


def rank(scores: Tensor) -> Labels:
    """Return the classes of the highest scores, best first; ties go to the lower class.

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
