"""The loss as usually written in PyTorch, with the 2N x 2N matrix in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, float], Tensor]  # of two views [N, D] and a temperature


def eager(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
    """What most people write: the whole matrix, its diagonal masked, cross-entropy.

    Args:
        z0: Embeddings of the first views, [N, D].
        z1: Embeddings of the second views, [N, D].
        temperature: T > 0.

    Returns:
        The mean loss, a scalar.
    """
    z = F.normalize(torch.cat([z0, z1]), dim=1)
    logits = z @ z.T / temperature
    logits.fill_diagonal_(-torch.inf)
    positives = torch.arange(len(z), device=z.device).roll(len(z0))
    return F.cross_entropy(logits, positives)


def compiled(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
    """The same, compiled by `torch.compile`; see `eager`."""
    return _compile()(z0, z1, temperature)


@functools.cache  # at the first call: the compiler takes most of a second to import
def _compile() -> Loss:
    return torch.compile(eager, dynamic=False)
