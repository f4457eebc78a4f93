"""The losses written down from their papers, densely, in the dtype of their inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosines(x: Tensor, y: Tensor) -> Tensor:
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def nt_xent(
    z0: Tensor,
    z1: Tensor,
    temperature: Tensor | float,
    positive_ids: Tensor | None = None,
    ignore_ids: Tensor | None = None,
) -> Tensor:
    """Return the losses [2N]; the temperature is one, or one for each image, [N]."""
    n = len(z0)
    z = torch.cat([z0, z1])
    t = torch.as_tensor(temperature, dtype=z.dtype)
    logits = cosines(z, z) / (t.repeat(2)[:, None] if t.ndim else t)
    own = torch.eye(2 * n, dtype=torch.bool)
    ids = torch.arange(n) if positive_ids is None else positive_ids
    positive = (ids.repeat(2)[:, None] == ids.repeat(2)) & ~own
    left_out = own
    if ignore_ids is not None:
        left_out = left_out | (ignore_ids.repeat(2)[:, None] == ignore_ids.repeat(2)) & ~positive
    log_p = logits - logits.masked_fill(left_out, -torch.inf).logsumexp(1, keepdim=True)
    return -log_p.masked_fill(~positive, 0).sum(1) / positive.sum(1)


def info_nce(
    queries: Tensor,
    keys: Tensor,
    temperature: Tensor | float,
    negatives: Tensor | None = None,
    in_batch: bool = True,
    ignore_ids: Tensor | None = None,
) -> Tensor:
    """Return the losses of the queries [N]."""
    t = torch.as_tensor(temperature, dtype=queries.dtype)
    t = t[:, None] if t.ndim else t
    logits = cosines(queries, keys) / t
    positive = logits.diagonal()
    own = torch.eye(len(logits), dtype=torch.bool)
    if not in_batch:
        logits = logits.masked_fill(~own, -torch.inf)
    if ignore_ids is not None:
        equal = ignore_ids[:, None] == ignore_ids
        logits = logits.masked_fill(equal & ~own, -torch.inf)
    if negatives is not None:
        logits = torch.cat([logits, cosines(queries, negatives) / t], 1)
    return logits.logsumexp(1) - positive


def sup_con(features: Tensor, labels: Tensor, temperature: Tensor | float, form: str) -> Tensor:
    """Return the losses [N V] of features [N, V, D]."""
    views = features.shape[1]
    z, ids = features.flatten(0, 1), labels.repeat_interleave(views)
    logits = cosines(z, z) / temperature
    rows = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positive = [j for j in others if ids[j] == ids[i]]
        p = logits[i, others].logsumexp(0)
        if not positive:
            rows.append(0 * p)
        elif form == "out":
            rows.append((p - logits[i, positive]).mean())
        else:
            rows.append(-(logits[i, positive] - p).exp().mean().log())
    return torch.stack(rows)


def dcl(z0: Tensor, z1: Tensor, temperature: Tensor | float, sigma: float | None) -> Tensor:
    """Return the losses [2N]."""
    n = len(z0)
    z = torch.cat([z0, z1])
    similarity = cosines(z, z)
    positive = similarity.diagonal(n)
    weight = torch.ones(n, dtype=z.dtype)
    if sigma is not None:
        e = (positive / sigma).exp()
        weight = 2 - e / e.mean()
    index = torch.arange(2 * n)
    pairs = (index[:, None] % n) == (index % n)
    denominator = (similarity / temperature).masked_fill(pairs, -torch.inf).logsumexp(1)
    return denominator - (weight * positive).repeat(2) / temperature


def siglip(
    queries: Tensor, keys: Tensor, temperature: Tensor | float, bias: Tensor | float
) -> Tensor:
    """Return the losses of the queries [N]."""
    logits = cosines(queries, keys) / temperature + bias
    sign = 2 * torch.eye(*logits.shape, dtype=logits.dtype) - 1
    return F.softplus(-sign * logits, threshold=1e9).sum(1)


def hcl(
    z0: Tensor, z1: Tensor, temperature: Tensor | float, beta: float, tau_plus: float
) -> Tensor:
    """Return the losses [2N], without any care for overflow."""
    n = len(z0)
    z = torch.cat([z0, z1])
    similarity = cosines(z, z)
    index = torch.arange(2 * n)
    pairs = (index[:, None] % n) == (index % n)
    positive = (similarity.diagonal(n).repeat(2) / temperature).exp()
    negative = (similarity / temperature).exp().masked_fill(pairs, 0)
    hard = (similarity / temperature * beta).exp().masked_fill(pairs, 0)
    m = 2 * n - 2
    reweighted = (hard * negative).sum(1) / (hard.sum(1) / m)
    least = m * torch.exp(-1 / torch.as_tensor(temperature, dtype=z.dtype))
    others = torch.maximum((reweighted - tau_plus * m * positive) / (1 - tau_plus), least)
    return -torch.log(positive / (positive + others))
