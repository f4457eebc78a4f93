"""The readable oracle: NT-Xent in pure PyTorch, with the whole 2N x 2N matrix in memory.

Every other implementation in this package is tested against this one in float64.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = get_args(Reduction)  # here, since Dynamo of torch 2.6 does not trace get_args


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that views of ``dtype`` are computed in: half types widen to float32."""
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
        # Of two floats that change between the calls of a compiled training step, this one and eps,
        # Inductor (seen in 2.14) takes one for the other.
        temperature = torch.scalar_tensor(temperature, dtype=z.dtype, device=z.device)
    temperature = temperature.to(z)
    rows = torch.arange(len(z), device=z.device)
    logits = (z @ z.T / temperature).masked_fill(rows[:, None] == rows, -torch.inf)  # [2N, 2N]
    return reduce_rows(F.cross_entropy(logits, rows.roll(len(z0)), reduction="none"), reduction)
