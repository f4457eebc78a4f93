r"""The losses that SimCLR compares NT-Xent with, in plain PyTorch.

With u, v+ and v- unit rows, T the temperature, m the margin and sigma the logistic function, the
losses of one row u with one negative, and their gradients towards u, are

======================  ===========================================  ============================
NT-Logistic             -log sigma(u.v+ / T) - log sigma(-u.v- / T)  -sigma(-u.v+ / T) / T v+
                                                                     + sigma(u.v- / T) / T v-
margin triplet          max(u.v- - u.v+ + m, 0)                      v- - v+ if u.v+ - u.v- < m,
                                                                     else 0
======================  ===========================================  ============================

Each row is u in turn; its loss is the mean over its negatives, the other 2N - 2 rows, or the loss
of the semi-hard negative alone: the most similar of those that are less similar than the positive
(Schroff et al., arXiv 1503.03832). The hinge gives one beyond the margin no loss.

Source: SimCLR (arXiv 2002.05709), table 2 and section 5.1; the paper maximizes the negatives of
these losses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext._checks.scalars import as_temperature
from simclr_ext._checks.tensors import check_views
from simclr_ext.options.checks import check, check_at_least


def nt_logistic_loss(
    z0: Tensor, z1: Tensor, temperature: float = 0.5, *, semi_hard: bool = False
) -> Tensor:
    """Return the mean over the 2N rows of the NT-Logistic loss.

    Args:
        z0: Embeddings of the first views, [N, D], floating, N >= 2.
        z1: Embeddings of the second views, [N, D]; row i is the positive of row i of `z0`.
        temperature: T > 0.
        semi_hard: Whether each row has only its semi-hard negative, or none if there is none.

    Returns:
        A scalar.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape, device or temperature is not as above.

    Example:
        >>> z = torch.eye(2)  # log(1 + e^-1) + log 2
        >>> round(nt_logistic_loss(z, z, temperature=1.0).item(), 4)
        1.0064
    """
    as_temperature(temperature)
    positive, negatives = _similarities(z0, z1, semi_hard)
    return nt_logistic_rows(positive, negatives, temperature).mean()


def margin_triplet_loss(
    z0: Tensor, z1: Tensor, margin: float = 0.4, *, semi_hard: bool = False
) -> Tensor:
    """Return the mean over the 2N rows of the margin triplet loss.

    Args:
        z0: As for `nt_logistic_loss`.
        z1: As for `nt_logistic_loss`.
        margin: m >= 0.
        semi_hard: As for `nt_logistic_loss`; a row without a semi-hard negative has the loss 0.

    Returns:
        A scalar.

    Raises:
        TypeError: As for `nt_logistic_loss`.
        ValueError: A shape, device or margin is not as above.

    Example:
        >>> z = torch.eye(2)  # positives at 1, negatives at 0
        >>> margin_triplet_loss(z, z, margin=1.5).item()
        0.5
    """
    check_at_least("margin", margin, 0)
    positive, negatives = _similarities(z0, z1, semi_hard)
    return margin_triplet_rows(positive, negatives, margin).mean()


def nt_logistic_rows(positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Return the losses [R] of rows.

    Args:
        positive: Similarity to the positive, [R, 1].
        negatives: Similarities to the negatives, [R, K]; -inf: none.
        temperature: T.
    """
    attraction = -F.logsigmoid(positive / temperature).squeeze(1)
    return attraction - F.logsigmoid(-negatives / temperature).mean(dim=1)


def margin_triplet_rows(positive: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Return the losses [R] of rows; see `nt_logistic_rows`."""
    return (negatives - positive + margin).relu().mean(dim=1)


def _similarities(z0: Tensor, z1: Tensor, semi_hard: bool) -> tuple[Tensor, Tensor]:
    """Return the cosine similarities to the positives [2N, 1] and to the negatives [2N, K]."""
    check_views(z0, z1)
    check(len(z0) >= 2, "z0", tuple(z0.shape), "[N, D] with N >= 2, so that there are negatives")
    z = F.normalize(torch.cat([z0, z1]), dim=1)  # [2N, D]
    rows = torch.arange(len(z), device=z.device)
    partner = rows.roll(len(z0))
    similarity = z @ z.T  # [2N, 2N]
    positive = similarity.gather(1, partner[:, None])
    others = (rows != rows[:, None]) & (rows != partner[:, None])
    negatives = similarity[others].view(len(z), -1)  # [2N, 2N - 2]
    if semi_hard:
        harder = negatives >= positive
        negatives = negatives.masked_fill(harder, -torch.inf).amax(dim=1, keepdim=True)
    return positive, negatives
