"""solo-learn's loss: ``from simclr_ext.compat.solo_learn import simclr_loss_func``."""

from __future__ import annotations

from torch import Tensor

from simclr_ext._checks.tensors import check_matrix
from simclr_ext.backends.reference import compute_dtype
from simclr_ext.compat._refuse import processes, refuse_processes
from simclr_ext.losses._options import Options, check_ids, numbers_of, row_losses


def simclr_loss_func(z: Tensor, indexes: Tensor, temperature: float = 0.1) -> Tensor:
    r"""Compute ``solo.losses.simclr.simclr_loss_func``.

    With s the cosine similarity and P(i) the other rows with the index of row i, the mean of

    .. math:: \ell_i = -\log \frac{\sum_{p \in P(i)} \exp(s_{ip} / T)}
              {\sum_{j \ne i} \exp(s_{ij} / T)}

    With two views of each index that is :func:`simclr_ext.nt_xent_loss`; with more, the positives
    are summed inside of the logarithm, which takes twice the work.

    Args:
        z: Rows of all views, [N V, D], floating.
        indexes: [N V] integers, equal for the views of an image, or for the images of a class.
        temperature: T > 0.

    Returns:
        The loss; infinite if a row has no positive.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape, device or the temperature is not as above.
        NotImplementedError: If there are several processes, from which solo-learn gathers.

    Example:
        >>> import torch
        >>> z, indexes = torch.eye(4), torch.tensor([0, 1, 0, 1])
        >>> round(simclr_loss_func(z, indexes, 0.5).item(), 4)  # log(3): all similarities are 0
        1.0986

    Source: SimCLR (arXiv 2002.05709), equation 1, for two views.
    """
    refuse_processes("simclr_loss_func", processes())
    check_matrix("z", z, "N V")
    options = Options.of(temperature, "mean", True, None, "auto")
    check_ids("indexes", indexes, len(z), z.device)
    label = numbers_of(indexes)
    loss, lse = row_losses(z, None, options, label=label)
    if not bool((label.bincount() == 2).all()):  # more positives than one
        loss = lse - row_losses(z, None, options, label=label, denominator="positives")[1]
    return loss.mean().to(compute_dtype(z.dtype))
