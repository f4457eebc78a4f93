"""The reference: the losses in plain PyTorch, with the whole matrix in memory.

Every other implementation in this package is tested against this one in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["mean", "sum", "none"]
Denominator = Literal["all", "negatives", "positives"]
REDUCTIONS = get_args(Reduction)  # at import: Dynamo of torch 2.6 does not trace get_args


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to compute in for views of ``dtype``: float32 for half types."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def reduce_rows(rows: Tensor, reduction: Reduction) -> Tensor:
    """Return the mean or the sum of the losses [2N], or a copy of them for ``"none"``."""
    if reduction == "none":
        return rows.clone()
    return rows.mean() if reduction == "mean" else rows.sum()


def nt_xent(
    z0: Tensor,
    z1: Tensor,
    temperature: float | Tensor,
    *,
    reduction: Reduction,
    normalize: bool,
    eps: float,
) -> Tensor:
    r"""Return the reduced NT-Xent losses of the 2N rows.

    .. math:: \ell_i = \log \sum_{j \ne i} \exp(s_{ij} / T) - s_{i,p(i)} / T,
              \qquad p(i) = (i + N) \bmod 2N

    Args:
        z0: Embeddings of the first views, [N, D], floating.
        z1: Embeddings of the second views, [N, D], of the dtype of ``z0``.
        temperature: T > 0, a float or a 0-d tensor.
        reduction: Over the 2N rows, those of ``z0`` first.
        normalize: Whether s is the cosine similarity rather than the dot product.
        eps: Rows shorter than this are divided by it instead of by their norm.

    Returns:
        A scalar, or [2N] losses; float32, or float64 for float64 views.

    Example:
        >>> z = torch.eye(2)  # each row: log(e^2 + 2) - 2
        >>> nt_xent(z, z, 0.5, reduction="none", normalize=True, eps=1e-12)
        tensor([0.2395, 0.2395, 0.2395, 0.2395])

    Source: SimCLR (arXiv 2002.05709), section 2.1, equation 1.
    """
    z = torch.cat([z0, z1]).to(compute_dtype(z0.dtype))  # [2N, D]
    if normalize:
        z = F.normalize(z, dim=1, eps=eps)
    if not isinstance(temperature, Tensor):
        # If two floats, this one and eps, change between calls of a compiled training step,
        # Inductor confuses them (seen in 2.14).
        temperature = torch.scalar_tensor(temperature, dtype=z.dtype, device=z.device)
    temperature = temperature.to(z)
    rows = torch.arange(len(z), device=z.device)
    logits = (z @ z.T / temperature).masked_fill(rows[:, None] == rows, -torch.inf)  # [2N, 2N]
    return reduce_rows(F.cross_entropy(logits, rows.roll(len(z0)), reduction="none"), reduction)


def contrastive(
    x: Tensor,
    y: Tensor | None,
    temperature: float | Tensor,
    *,
    normalize: bool,
    eps: float,
    shifts: Sequence[int] = (),
    label: Tensor | None = None,
    ignored: Tensor | None = None,
    denominator: Denominator = "all",
    with_stats: bool = False,
) -> tuple[Tensor, ...]:
    r"""Return loss and log-sum-exp of each row x_i over the columns, and of each column y_j.

    .. math:: \mathrm{lse}_i = \log \sum_{j \in d(i)} \exp(s_{ij} / T), \qquad
              \ell_i = \mathrm{lse}_i - \frac{1}{n_i T} \sum_{j \in p(i)} s_{ij},
              \qquad n_i = |p(i)|

    and a loss of 0 for a row without positives; for the columns the same on the transposed matrix.
    A row without terms d(i) has lse -inf.

    Args:
        x: Rows, [R, D], floating.
        y: Columns, [C, D], of the dtype of ``x``; None: the rows x, without the pairs (i, i).
        temperature: T > 0, a float or a 0-d tensor.
        normalize: Whether s is the cosine similarity rather than the dot product.
        eps: Rows shorter than this are divided by it instead of by their norm.
        shifts: The positives p(i) are the columns i + shift that exist.
        label: Instead of shifts, one number for each row of [x; y]: the columns with the same label
            are positive.
        ignored: One number for each row of [x; y]: pairs of equal numbers are not in d(i), unless
            they are positive.
        denominator: Which of the other pairs are in d(i).
        with_stats: Whether to return the by-products, too.

    Returns:
        loss and lse, each [R + C], those of the rows first, or [R] if y is None; float32, or
        float64 for float64 inputs. With ``with_stats`` also the mean similarity of the positives
        (NaN without any), the largest similarity of a negative in d(i), its row of [x; y] (-inf and
        -1 without one), sum_j P_ij s_ij, and the sum of exp(-2 |z_i - z_j|^2) over these negatives;
        without gradients.

    Example:
        >>> x = torch.eye(2)  # rows and columns: log(e^2 + 1) - 2
        >>> contrastive(x, x, 0.5, normalize=True, eps=1e-12, shifts=[0])[0]
        tensor([0.1269, 0.1269, 0.1269, 0.1269])

    Source: for shifts (0,), CLIP (arXiv 2103.00020), figure 3; for labels, SupCon
    (arXiv 2004.11362), equation 2.
    """
    rows = x.to(compute_dtype(x.dtype))
    columns = rows if y is None else y.to(rows.dtype)
    if normalize:
        rows, columns = (F.normalize(z, dim=1, eps=eps) for z in (rows, columns))
    logits = rows @ columns.T / temperature  # [R, C]
    i = torch.arange(len(rows), device=x.device)[:, None]
    j = torch.arange(len(columns), device=x.device)
    counts = i != j if y is None else torch.ones_like(logits, dtype=torch.bool)
    positive = torch.zeros_like(counts)
    for shift in shifts:
        positive |= i + shift == j
    if label is not None:
        positive |= _equal(label, len(rows), y is None)
    positive &= counts
    term = counts if denominator != "positives" else positive
    if denominator == "negatives":
        term = term & ~positive
    if ignored is not None:
        term = term & (positive | ~_equal(ignored, len(rows), y is None))
    sides = [(logits, positive, term, len(rows) if y is not None else 0)]
    if y is not None:
        sides.append((logits.T, positive.T, term.T, 0))
    found = [_softmax_losses(*side[:3]) for side in sides]
    if with_stats:
        found = [
            (*losses, *_stats(*side, temperature))
            for losses, side in zip(found, sides, strict=True)
        ]
    return tuple(torch.cat(results) for results in zip(*found, strict=True))


@torch.no_grad()
def _stats(
    logits: Tensor, positive: Tensor, term: Tensor, first: int, temperature: float | Tensor
) -> tuple[Tensor, ...]:
    """Return the by-products of each row, whose columns are the rows of z from `first` on."""
    similarity = logits * temperature
    negative = similarity.masked_fill(positive | ~term, -torch.inf)
    hardest, index = negative.max(1)
    mean_positive = similarity.masked_fill(~positive, 0).sum(1) / positive.sum(1)
    softmax = logits.masked_fill(~term, -torch.inf).softmax(1)
    mean = (softmax * similarity).sum(1)
    near = (4 * (negative - 1)).exp().sum(1)
    return mean_positive, hardest, torch.where(hardest == -torch.inf, -1, index + first), mean, near


def sigmoid(
    x: Tensor,
    y: Tensor,
    scale: float | Tensor,
    bias: float | Tensor,
    *,
    normalize: bool,
    eps: float,
    shifts: Sequence[int] = (0,),
) -> Tensor:
    r"""Return the sigmoid loss of each row x_i over all columns.

    .. math:: \ell_i = -\sum_j \log \sigma(c_{ij} (t s_{ij} + b))

    with c_ij = 1 for the positives of row i, and -1 for all others.

    Args:
        x: Rows, [R, D], floating.
        y: Columns, [C, D], of the dtype of ``x``.
        scale: t > 0, a float or a 0-d tensor.
        bias: b, a float or a 0-d tensor.
        normalize: Whether s is the cosine similarity rather than the dot product.
        eps: Rows shorter than this are divided by it instead of by their norm.
        shifts: The positives of row i are the columns i + shift that exist.

    Returns:
        [R]; float32, or float64 for float64 inputs.

    Example:
        >>> x = torch.eye(2)  # log(1 + e^-1) + log(2)
        >>> sigmoid(x, x, 1.0, 0.0, normalize=True, eps=1e-12)
        tensor([1.0064, 1.0064])

    Source: SigLIP (arXiv 2303.15343), section 3.2.
    """
    rows, columns = (z.to(compute_dtype(x.dtype)) for z in (x, y))
    if normalize:
        rows, columns = (F.normalize(z, dim=1, eps=eps) for z in (rows, columns))
    logits = scale * (rows @ columns.T) + bias  # [R, C]
    i = torch.arange(len(rows), device=x.device)[:, None]
    j = torch.arange(len(columns), device=x.device)
    positive = torch.zeros_like(logits, dtype=torch.bool)
    for shift in shifts:
        positive |= i + shift == j
    return -F.logsigmoid(torch.where(positive, logits, -logits)).sum(1)


def _equal(numbers: Tensor, rows: int, same: bool) -> Tensor:
    """Return which pairs of a row and a column have equal numbers."""
    return numbers[:rows, None] == (numbers if same else numbers[rows:])


def _softmax_losses(logits: Tensor, positive: Tensor, term: Tensor) -> tuple[Tensor, ...]:
    """Return for each row its lse minus the mean of its positives, and its lse."""
    largest = logits.masked_fill(~term, -torch.inf).amax(1, keepdim=True).detach()
    # Relative to the largest term: both then cancel exactly where a positive dominates.
    logits = logits - largest.clamp(min=torch.finfo(logits.dtype).min)
    log_sum = logits.masked_fill(~term, -torch.inf).logsumexp(1)
    difference = (log_sum[:, None] - logits).masked_fill(~positive, 0).sum(1)
    return difference / positive.sum(1).clamp(min=1), log_sum + largest[:, 0]
