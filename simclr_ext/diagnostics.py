"""Measurements of contrastive training on the embeddings, in addition to the loss."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext._checks.scalars import as_temperature, check_positive
from simclr_ext._checks.tensors import check_views


class ContrastiveMetrics(NamedTuple):
    """Measurements of two batches of views, means over the 2N rows.

    Attributes:
        accuracy: Share of rows that are closer to their positive than to every other row: top 1.
        entropy: Entropy of the softmax over the other 2N - 1 rows, in nats; log(2N - 1) if it
            is uniform.
        positive_similarity: Similarity to the positive.
        negative_similarity: Similarity to the other 2N - 2 rows; NaN for N = 1.
        top_k_accuracy: Share of rows to which fewer than k other rows are as close as their
            positive.
    """

    accuracy: Tensor
    entropy: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor
    top_k_accuracy: Tensor


@torch.no_grad()
def contrastive_metrics(
    z0: Tensor,
    z1: Tensor,
    temperature: float | Tensor = 0.5,
    chunk: int = 1024,
    normalize: bool = True,
    k: int = 5,
    rows: Tensor | None = None,
) -> ContrastiveMetrics:
    r"""Measure accuracy, entropy and similarities, in O(N (D + chunk)) memory.

    With s the similarities of the 2N rows of `z0` and `z1`, p(i) the positive of row i and

    .. math:: P_{ij} = \exp(s_{ij} / T) / \sum_{l \ne i} \exp(s_{il} / T), \qquad j \ne i

    a row counts as accurate if its positive has the largest P, and no other the same, and its
    entropy is -sum_j P_ij log P_ij. So top-1 and top-k accuracy need no 2N x 2N logits.

    Args:
        z0: Embeddings of the first views, [N, D], floating; half types are computed in float32,
            under autocast, too.
        z1: Embeddings of the second views, [N, D].
        temperature: T > 0; a number, or a tensor of shape [] or [1].
        chunk: Number of rows processed at a time.
        normalize: Whether similarities are cosines. If not, they are dot products.
        k: That of ``top_k_accuracy``, at least 1.
        rows: Numbers of the rows whose means are returned, [n] int64, those of `z0` first; each is
            compared with all rows. None: all.

    Returns:
        Five 0-d tensors on the device of the views; no gradient.

    Raises:
        TypeError: If an argument has the wrong type, or a view the wrong dtype.
        ValueError: If the views are not two matrices of one shape, or T, chunk or k is not
            positive.

    Example:
        >>> metrics = contrastive_metrics(torch.eye(4), torch.eye(4), temperature=0.5)
        >>> [round(value.item(), 4) for value in metrics]
        [1.0, 1.4907, 1.0, 0.0, 1.0]

    Source: SimCLR (arXiv 2002.05709), table 5, for accuracy and entropy.
    """
    check_views(z0, z1)
    temperature = as_temperature(temperature)
    for name, number in (("chunk", chunk), ("k", k)):
        check_positive(name, number)
    z = torch.cat([z0, z1])  # [2N, D]
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    if normalize:
        z = F.normalize(z, dim=1)
    rows = torch.arange(len(z), device=z.device) if rows is None else rows
    with torch.autocast(z.device.type, enabled=False):
        sums = _sums(z, rows, temperature, chunk, k)
    accuracy, top_k, entropy, positive, negative = sums / len(rows)
    negatives = len(z) - 2
    negative = negative / negatives if negatives else torch.full_like(negative, torch.nan)
    return ContrastiveMetrics(accuracy, entropy, positive, negative, top_k)


def _sums(z: Tensor, own_rows: Tensor, temperature: float | Tensor, chunk: int, k: int) -> Tensor:
    """Return the sums [5] over some of the rows z [2N, D]; of all negatives' similarities."""
    rows = len(z)
    positives = torch.arange(rows, device=z.device).roll(rows // 2)
    sums = z.new_zeros(5, dtype=torch.float64)
    for own in torch.split(own_rows, chunk):
        similarity = z[own] @ z.mT  # [chunk, 2N]
        positive = similarity.gather(1, positives[own, None])  # [chunk, 1]
        others = similarity.sum(dim=1) - similarity.gather(1, own[:, None]).squeeze(1)
        similarity.scatter_(1, own[:, None], -torch.inf)  # mask the row itself
        # Not the number of closer rows: among rows that are all equal, or NaN, that is 0.
        farther = (similarity < positive).sum(dim=1)  # the row itself is among them
        log_p = similarity.div_(temperature).log_softmax(dim=1)
        entropy = torch.special.entr(log_p.exp_()).sum(dim=1)
        parts = (
            farther >= rows - 1,
            farther >= rows - k,
            entropy,
            positive,
            others - positive.squeeze(1),
        )
        sums += torch.stack([part.sum(dtype=torch.float64) for part in parts])
    return sums


@torch.no_grad()
def embedding_std(z: Tensor) -> float:
    """Return the spread of embeddings [B, D] on the sphere: 1 if uniform, 0 if all are equal.

    It is the standard deviation of the coordinates of the unit rows, over all rows, times the root
    of D.
    """
    rows = F.normalize(z.float(), dim=1)
    return float(rows.std(dim=0, correction=0).square().mean().sqrt()) * math.sqrt(z.shape[1])


@torch.no_grad()
def effective_rank(z: Tensor) -> float:
    """Return how many dimensions embeddings [B, D] use: the exponential of the spectrum's entropy.

    The spectrum: the singular values of the centered unit rows, divided by their sum.

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007.
    """
    rows = F.normalize(z.double(), dim=1)
    rows = rows - rows.mean(dim=0)
    spectrum = torch.linalg.eigvalsh(rows.mT @ rows).clamp(min=0).sqrt()
    total = spectrum.sum()
    if float(total) == 0:
        return 1.0  # a point
    return float(torch.special.entr(spectrum / total).sum().exp())
