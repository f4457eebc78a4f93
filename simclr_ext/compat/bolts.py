"""Lightning Bolts' loss: ``from simclr_ext.compat.bolts import nt_xent_loss``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simclr_ext._checks.scalars import as_temperature
from simclr_ext._checks.tensors import check_views
from simclr_ext.compat._refuse import processes, refuse_processes
from simclr_ext.losses._options import Options, row_losses


def nt_xent_loss(out_1: Tensor, out_2: Tensor, temperature: float, eps: float = 1e-6) -> Tensor:
    r"""Compute ``SimCLR.nt_xent_loss`` of pl_bolts, of rows as they are.

    With s_ij = z_i . z_j of the 2N rows and p(i) the other view of row i, the mean of

    .. math:: \ell_i = -\log \frac{\exp(s_{i,p(i)} / T)}{\max(n_i, \epsilon) + \epsilon}, \qquad
              n_i = \sum_j \exp(s_{ij} / T) - \exp(1 / T)

    For unit rows n_i is the denominator of :func:`simclr_ext.nt_xent_loss`. Rows are unit but for
    rounding, so at small T, n_i contains a rounding error that may be larger than all the rest:
    exp(|z_i|^2 / T) - exp(1 / T). Here it is that of the rows alone, computed in double; Bolts adds
    that of its float32 sums, and is infinite for T < 0.0113. `nt_xent_loss` has no such term.

    Args:
        out_1: First views, [N, D], floating; the caller normalizes them.
        out_2: Second views, [N, D].
        temperature: T > 0.
        eps: The smallest n_i, > 0.

    Returns:
        A scalar.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape, device or value is not as above.
        NotImplementedError: If there are several processes, from which Bolts gathers.

    Example:
        >>> z = torch.eye(4)
        >>> round(nt_xent_loss(z, z, 0.5).item(), 4)  # log(e^2 + 6) - 2
        0.5944

    Source: SimCLR (arXiv 2002.05709), equation 1, but for eps.
    """
    refuse_processes("nt_xent_loss", processes())
    check_views(out_1, out_2, names=("out_1", "out_2"))
    if not (math.isfinite(eps) and eps > 0):
        raise ValueError(f"eps must be positive and finite, got {eps}")
    as_temperature(temperature)
    options = Options.of(temperature, "mean", False, None, "auto")
    n = len(out_1)
    z = torch.cat([out_1, out_2])
    loss, lse = row_losses(z, None, options, shifts=(n, -n))
    positive, lse = (lse - loss).double(), lse.double()
    own, one = z.double().square().sum(1) / temperature, 1 / temperature
    largest = torch.maximum(lse, own).clamp(min=one).detach()
    rest = torch.exp(one - largest) * torch.expm1(own - one)
    small = eps * torch.exp(-largest)
    others = torch.maximum(torch.exp(lse - largest) + rest, small)
    rows = torch.log(others + small) + largest - positive
    return rows.mean().to(loss.dtype)
