"""info-nce-pytorch's loss: ``from simclr_ext.compat.info_nce import InfoNCE``."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_ext._checks.tensors import check_views
from simclr_ext.backends.reference import Reduction
from simclr_ext.losses import info_nce_loss
from simclr_ext.losses._options import Options

NegativeMode = Literal["unpaired", "paired"]
EPS = 1e-12  # the smallest norm, as in F.normalize


def info_nce(
    query: Tensor,
    positive_key: Tensor,
    negative_keys: Tensor | None = None,
    temperature: float = 0.1,
    reduction: Reduction = "mean",
    negative_mode: NegativeMode = "unpaired",
) -> Tensor:
    r"""Compute ``info_nce.info_nce``.

    .. math:: \ell_i = -\log \frac{\exp(s(q_i, k_i) / T)}
              {\exp(s(q_i, k_i) / T) + \sum_{n \in N(i)} \exp(s(q_i, n) / T)}

    with s the cosine similarity, and N(i) the keys of the other queries, or the negative keys.

    Args:
        query: [N, D], floating.
        positive_key: [N, D].
        negative_keys: None: the keys of other queries; [M, D] for all queries; or [N, M, D], M for
            each query: no product of two matrices, computed in torch with O(N M) memory beside
            the keys.
        temperature: T > 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``: [N].
        negative_mode: ``"unpaired"`` for [M, D], ``"paired"`` for [N, M, D].

    Returns:
        A scalar, or [N] losses.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape or value is not as above.

    Example:
        >>> query, key = torch.eye(4), torch.eye(4)
        >>> round(info_nce(query, key, temperature=0.5).item(), 4)  # log(e^2 + 3) - 2
        0.3408
        >>> negatives = torch.eye(4).roll(1, 0)[:, None]
        >>> loss = info_nce(query, key, negatives, temperature=0.5, negative_mode="paired")
        >>> round(loss.item(), 4)  # log(e^2 + 1) - 2
        0.1269

    Source: CPC (arXiv 1807.03748), equation 4.
    """
    if negative_mode not in ("unpaired", "paired"):
        raise ValueError(f"negative_mode must be 'unpaired' or 'paired', got {negative_mode!r}")
    if negative_keys is None:
        return info_nce_loss(query, positive_key, temperature, reduction=reduction)
    dimensions = 2 if negative_mode == "unpaired" else 3
    if negative_keys.ndim != dimensions:
        raise ValueError(
            f"negative_keys must have {dimensions} dimensions if negative_mode is "
            f"{negative_mode!r}, got shape {tuple(negative_keys.shape)}"
        )
    if negative_mode == "paired":
        return _paired(query, positive_key, negative_keys, temperature, reduction)
    return info_nce_loss(
        query,
        positive_key,
        temperature,
        negatives=negative_keys,
        in_batch=False,
        reduction=reduction,
    )


def _paired(
    query: Tensor, key: Tensor, negatives: Tensor, temperature: float, reduction: Reduction
) -> Tensor:
    check_views(query, key, names=("query", "positive_key"))
    Options.of(temperature, reduction, normalize=True, eps=EPS, backend="auto")
    n, d = query.shape
    if negatives.shape[0] != n or negatives.shape[2] != d:
        raise ValueError(
            f"negative_keys must be [N, M, D] with N = {n} and D = {d} of query, got shape "
            f"{tuple(negatives.shape)}"
        )
    query, key = F.normalize(query, dim=1, eps=EPS), F.normalize(key, dim=1, eps=EPS)
    # The norms are divided out afterwards: no second copy of the [N, M, D] keys.
    norms = negatives.norm(dim=2).clamp(min=EPS)
    logits = torch.einsum("nd,nmd->nm", query, negatives) / norms
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, logits], 1) / temperature  # [N, 1 + M]
    first = torch.zeros(n, dtype=torch.long, device=logits.device)
    return F.cross_entropy(logits, first, reduction=reduction)


class InfoNCE(nn.Module):
    """``info_nce.InfoNCE``: :func:`info_nce` as a module.

    Args:
        temperature: T > 0.
        reduction: As in :func:`info_nce`.
        negative_mode: As in :func:`info_nce`.

    Example:
        >>> criterion = InfoNCE(temperature=0.5)
        >>> round(criterion(torch.eye(4), torch.eye(4)).item(), 4)
        0.3408
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reduction: Reduction = "mean",
        negative_mode: NegativeMode = "unpaired",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.reduction: Reduction = reduction
        self.negative_mode: NegativeMode = negative_mode

    def forward(
        self, query: Tensor, positive_key: Tensor, negative_keys: Tensor | None = None
    ) -> Tensor:
        """Return the loss of queries and keys, [N, D] each."""
        return info_nce(
            query,
            positive_key,
            negative_keys,
            self.temperature,
            self.reduction,
            self.negative_mode,
        )
