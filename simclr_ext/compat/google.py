"""google-research/simclr's loss in torch's terms."""

from __future__ import annotations

import torch
from torch import Tensor

from simclr_ext._checks.tensors import check_matrix
from simclr_ext.losses import nt_xent_loss

EPS = 1e-6  # the smallest norm: tf.math.l2_normalize has 1e-12 below the root


def add_contrastive_loss(
    hidden: Tensor,
    hidden_norm: bool = True,
    temperature: float = 1.0,
    tpu_context: None = None,
    weights: float | Tensor = 1.0,
) -> Tensor:
    r"""Compute the loss of ``objective.add_contrastive_loss``: the sum of both views' means.

    With l the losses of :func:`simclr_ext.nt_xent_loss`,

    .. math:: L = \frac{1}{M} \sum_{i=1}^N w_i (\ell_i + \ell_{i+N}), \qquad
              M = |\{i: w_i \ne 0\}|

    so without weights it is twice the mean of `nt_xent_loss`.

    Missing: the logits and labels that the original returns, too; they are N x N. For accuracies
    there is :func:`simclr_ext.contrastive_metrics`. The loss is returned and not added to any
    collection.

    Args:
        hidden: [2N, D], all first views, then all second.
        hidden_norm: Whether to divide each row by its l2 norm.
        temperature: T > 0.
        tpu_context: Must be None, as must be ``strategy`` of the version for TensorFlow 2.
        weights: A number, or [N]: w. A mean is over the images whose weight is not 0.

    Returns:
        A scalar.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape or the temperature is not as above.
        NotImplementedError: If ``tpu_context`` is given.

    Example:
        >>> hidden = torch.eye(4).repeat(2, 1)
        >>> round(add_contrastive_loss(hidden, temperature=0.5).item(), 4)  # 2 (log(e^2 + 6) - 2)
        1.1889

    Source: SimCLR (arXiv 2002.05709), section 2.1, algorithm 1.
    """
    if tpu_context is not None:
        raise NotImplementedError(
            "tpu_context must be None: this function takes the negatives of one process's batch; "
            "simclr_ext.nt_xent_loss takes those of several with group="
        )
    check_matrix("hidden", hidden, "2N")
    if len(hidden) % 2:
        raise ValueError(f"hidden must be [2N, D], got {len(hidden)} rows")
    n = len(hidden) // 2
    rows = nt_xent_loss(
        hidden[:n], hidden[n:], temperature, reduction="none", normalize=hidden_norm, eps=EPS
    )
    w = torch.as_tensor(weights, dtype=rows.dtype, device=rows.device)
    if w.ndim > 1 or w.numel() not in (1, n):
        raise ValueError(f"weights must be a number or [N] = [{n}], got shape {tuple(w.shape)}")
    w = w.expand(n)
    return (w * (rows[:n] + rows[n:])).sum() / w.count_nonzero().clamp(min=1)
