"""NT-Xent with what its forward pass finds beside the loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from simclr_ext.backends.reference import Reduction
from simclr_ext.backends.selection import Backend
from simclr_ext.losses._options import (
    Options,
    numbers_of,
    reduce_weighted,
    row_losses,
    sizes_of,
    weights_of_views,
)
from simclr_ext.losses.nt_xent import check_ids_of_views, checked_views, pairing_of


class ContrastiveStats(NamedTuple):
    """By-products of the loss of 2N rows, without gradients, in the dtype of the loss.

    Attributes:
        lse: Log-sum-exp of each row, [2N].
        positive_similarity: Similarity of each row to its positive, or the mean over several, [2N].
        hardest_similarity: The largest similarity to a negative, [2N]; -inf without one.
        hardest_index: The row of that negative, those of ``z0`` first, [2N] int64; -1 without one.
            Of several, the first.
        entropy: Entropy of the softmax over the other rows, in nats, [2N].
        uniformity: log of the mean of exp(-2 |z_i - z_j|^2) over all rows and their negatives, 0-d;
            of unit rows.

    Source: for alignment and uniformity, Wang and Isola (arXiv 2005.10242), section 4.1.
    """

    lse: Tensor
    positive_similarity: Tensor
    hardest_similarity: Tensor
    hardest_index: Tensor
    entropy: Tensor
    uniformity: Tensor

    @property
    def accuracy(self) -> Tensor:
        """The share of rows whose positive is closer than every negative, 0-d: top 1."""
        return (self.positive_similarity > self.hardest_similarity).to(self.lse.dtype).mean()

    @property
    def alignment(self) -> Tensor:
        """The mean of |z_i - z_p(i)|^2 of unit rows, 0-d."""
        return (2 - 2 * self.positive_similarity).mean()


def nt_xent_loss_with_stats(
    z0: Tensor,
    z1: Tensor | None = None,
    temperature: float | Tensor = 0.5,
    *,
    positive_ids: Tensor | None = None,
    ignore_ids: Tensor | None = None,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, ContrastiveStats]:
    """Compute NT-Xent and, in the same pass, accuracy, entropy and the hardest negatives.

    The loss and its gradients are those of :func:`simclr_ext.nt_xent_loss`.

    Args:
        z0: As :func:`simclr_ext.nt_xent_loss` takes it, like all others.
        z1: [N, D].
        temperature: T > 0; a number, or a floating tensor of shape [] or [1].
        positive_ids: [N] integers.
        ignore_ids: [N] integers.
        weights: [N] floating; the by-products are not weighted.
        reduction: Of the losses.
        normalize: Whether to divide each row by its l2 norm first.
        eps: Smallest norm.
        backend: What computes it.

    Returns:
        The loss, and the by-products of all 2N rows.

    Raises:
        TypeError: As :func:`simclr_ext.nt_xent_loss`.
        ValueError: Likewise, and for a temperature for each image.
        BackendUnavailableError: As :func:`simclr_ext.nt_xent_loss`.

    Example:
        >>> z = torch.eye(4)
        >>> loss, stats = nt_xent_loss_with_stats(z, z, 0.5)
        >>> stats.accuracy.item(), stats.alignment.item(), stats.hardest_similarity.max().item()
        (1.0, 0.0, 0.0)
    """
    z0, z1 = checked_views(z0, z1)
    options = Options.of(temperature, reduction, normalize, eps, backend)
    weights = weights_of_views(weights, z0)
    z = torch.cat([z0, z1])
    check_ids_of_views(z0, options, positive_ids, ignore_ids)
    label, ignored, shifts = pairing_of(len(z0), positive_ids, ignore_ids)
    loss, lse, *by_products = row_losses(
        z, None, options, shifts=shifts, label=label, ignored=ignored, with_stats=True
    )
    pairs = _count_negatives(len(z), label, ignored)
    stats = _stats_of(loss, lse, tuple(by_products), options.temperature, pairs)
    return reduce_weighted(loss, reduction, weights), stats


def _count_negatives(rows: int, label: Tensor | None, ignored: Tensor | None) -> int | Tensor:
    """Return how many pairs (i, j) are neither positive nor left out.

    Args:
        rows: 2N.
        label: Number of each row, from 0 to 2N - 1, equal for positives; None: those are the two
            views of an image.
        ignored: Likewise, equal for pairs that are left out, and so for the views of an image;
            None: none are.
    """
    if label is None:
        return rows * (rows - 2) if ignored is None else rows**2 - _equal_pairs(ignored)
    pairs = rows**2 - _equal_pairs(label)
    if ignored is not None:
        both = numbers_of(label.long() * rows + ignored)
        pairs = pairs - _equal_pairs(ignored) + _equal_pairs(both)
    return pairs


def _equal_pairs(numbers: Tensor) -> Tensor:
    """Return how many pairs (i, j) have equal numbers, i = j among them, 0-d."""
    return sizes_of(numbers).square().sum()


@torch.no_grad()
def _stats_of(
    loss: Tensor,
    lse: Tensor,
    by_products: tuple[Tensor, ...],
    temperature: float | Tensor,
    pairs: int | Tensor,
) -> ContrastiveStats:
    """Return the results of ``contrastive_stats`` as by-products of the loss, for so many pairs."""
    positive, hardest, index, mean, near = by_products
    t = temperature.to(lse) if isinstance(temperature, Tensor) else temperature
    uniformity = (near.sum() / pairs).log()  # without pairs the logarithm of 0 / 0, NaN
    return ContrastiveStats(
        lse.to(loss.dtype),
        positive,
        hardest,
        index,
        (lse - mean / t).to(loss.dtype),
        uniformity.to(loss.dtype),
    )
