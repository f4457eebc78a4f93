"""DCL and HCL: NT-Xent with another denominator, of the negatives alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simclr_ext._checks.scalars import as_number, check_positive, check_range
from simclr_ext._checks.tensors import check_views, second_view_missing
from simclr_ext.backends.reference import Reduction, compute_dtype
from simclr_ext.backends.selection import Backend
from simclr_ext.losses._module import ContrastiveLoss
from simclr_ext.losses._options import Options, reduce_weighted, row_losses, weights_of_views
from simclr_ext.losses._ranks import agreed, check_group, errors_reach_all

if TYPE_CHECKING:
    from simclr_ext.distributed import Exchange, Group, Union


def dcl_loss(
    z0: Tensor,
    z1: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    *,
    sigma: float | None = None,
    weights: Tensor | None = None,
    group: Group | None = None,
    exchange: Exchange = "gather",
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compute the decoupled contrastive loss of two batches of views, in O(N D) memory.

    NT-Xent without the positive in the denominator, with p(i) the other view of row i:

    .. math:: \ell_i = -w_i \frac{s_{i,p(i)}}{T} + \log \sum_{j \ne i, p(i)} \exp(s_{ij} / T)

    w = 1, or with ``sigma`` (DCLW) smaller for pairs that are already similar:

    .. math:: w_i = 2 - \frac{\exp(s_{i,p(i)} / \sigma)}
              {\frac{1}{N} \sum_k \exp(s_{k,p(k)} / \sigma)}

    Unlike NT-Xent it has no lower bound of 0.

    Args:
        z0: Embeddings of the first views, [N, D], N >= 2 and D >= 1, floating, any strides.
        z1: Embeddings of the second views, of the shape and device of ``z0``.
        temperature: T > 0; a number, or a floating tensor of shape [] or [1], which receives a
            gradient if it requires one.
        sigma: Concentration of the weights w, > 0, through which gradients flow, too; the paper
            has 0.5. None: w = 1.
        weights: [N] floating, >= 0: weights of the images' losses; receives a gradient if it
            requires one. The mean is then the weighted mean.
        group: As in :func:`simclr_ext.nt_xent_loss`, like the next five. With a group N >= 2 is
            required of the union batch alone.
        exchange: How the ranks' rows meet.
        reduction: Over the rows.
        normalize: Whether to divide each row by its l2 norm first.
        eps: Smallest norm.
        backend: What computes it.

    Returns:
        A scalar, or [2N] losses; float32, or float64 for float64 views.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape, device or value is not as above.
        BackendUnavailableError: As in :func:`simclr_ext.nt_xent_loss`.

    Example:
        >>> z = torch.eye(4)
        >>> round(dcl_loss(z, z, temperature=0.5).item(), 4)  # log(6) - 2
        -0.2082

    Source: DCL (arXiv 2110.06848), equations 6 and 7.
    """
    with errors_reach_all(group):
        first, second = _check_views(z0, z1, group)
        if sigma is not None:
            sigma = as_number(sigma)
            check_positive("sigma", sigma)
        options = Options.of(temperature, reduction, normalize, eps, backend)
        weights = weights_of_views(weights, first)
        check_group(group, exchange, options, first)
    union, options = _agreed(
        "dcl_loss", group, exchange, (first, second), options, weights, {"sigma": sigma or 0.0}
    )
    loss, lse = _losses_of_views(first, second, options, union=union)
    if sigma is not None:
        positive = (lse - loss)[: len(first)]  # s / T
        exponent = positive * options.temperature / sigma
        ratio = _over_mean(exponent, union)
        loss = loss + ((ratio - 1) * positive).repeat(2)
    return reduce_weighted(_rounded(loss, first, second), reduction, weights, union)


def hcl_loss(
    z0: Tensor,
    z1: Tensor | None = None,
    temperature: float | Tensor = 0.5,
    *,
    beta: float = 1.0,
    tau_plus: float = 0.1,
    weights: Tensor | None = None,
    group: Group | None = None,
    exchange: Exchange = "gather",
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compute the contrastive loss with hard, debiased negatives, in O(N D) memory.

    With p(i) the other view of row i and the M = 2N - 2 others its negatives,

    .. math:: \ell_i = -\log \frac{e^{s_{i,p(i)} / T}}{e^{s_{i,p(i)} / T} + g_i}, \qquad
              g_i = \max\left(\frac{r_i - M \tau^+ e^{s_{i,p(i)} / T}}{1 - \tau^+},
              M e^{-1 / T}\right), \qquad
              r_i = M \frac{\sum_j e^{(1 + \beta) s_{ij} / T}}{\sum_j e^{\beta s_{ij} / T}}

    Takes the work of two losses, or of one with beta = 0.

    Args:
        z0: Embeddings of the first views, [N, D], N >= 2 and D >= 1, floating, any strides.
        z1: Embeddings of the second views, of the shape and device of ``z0``.
        temperature: T > 0; a number, or a floating tensor of shape [] or [1], which receives a
            gradient if it requires one.
        beta: Concentration on negatives that are similar, >= 0; 0: all alike, the debiased loss.
        tau_plus: Share of negatives that are in truth positive, 0 <= tau_plus < 1.
        weights: [N] floating, >= 0: weights of the images' losses; receives a gradient if it
            requires one. The mean is then the weighted mean.
        group: As in :func:`simclr_ext.nt_xent_loss`, like the next five. With a group N >= 2 is
            required of the union batch alone.
        exchange: How the ranks' rows meet.
        reduction: Over the rows.
        normalize: Whether to divide each row by its l2 norm first.
        eps: Smallest norm.
        backend: What computes it.

    Returns:
        A scalar, or [2N] losses; float32, or float64 for float64 views.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape, device or value is not as above.
        BackendUnavailableError: As in :func:`simclr_ext.nt_xent_loss`.

    Example:
        >>> z = torch.eye(4)  # log(1 + 6 / e^2), without hard and debiased negatives NT-Xent
        >>> round(hcl_loss(z, z, temperature=0.5, beta=0, tau_plus=0).item(), 4)
        0.5944

    Source: Hard negatives (arXiv 2010.04592), section 3; debiasing (arXiv 2007.00224), equation 8.
    """
    with errors_reach_all(group):
        first, second = _check_views(z0, z1, group)
        beta, tau_plus = _check_hard(beta, tau_plus)
        options = Options.of(temperature, reduction, normalize, eps, backend)
        weights = weights_of_views(weights, first)
        check_group(group, exchange, options, first)
    facts: dict[str, object] = {"beta": beta, "tau_plus": tau_plus}
    union, options = _agreed("hcl_loss", group, exchange, (first, second), options, weights, facts)
    t = options.temperature
    loss, lse = _losses_of_views(first, second, options, t / (1 + beta), union)
    positive = (lse - loss) / (1 + beta)  # s / T
    negatives = _log_negatives(len(first), union)
    log_r = lse
    if beta > 0:
        log_r = lse - _losses_of_views(first, second, options, t / beta, union)[1] + negatives
    if tau_plus > 0:
        log_r = _log_of_difference(log_r, positive + negatives + math.log(tau_plus))
    log_g = log_r - math.log1p(-tau_plus)
    least = negatives - 1 / torch.as_tensor(t, dtype=log_g.dtype, device=log_g.device)
    difference = torch.maximum(log_g, least) - positive
    losses = torch.logaddexp(difference, torch.zeros_like(difference))
    return reduce_weighted(_rounded(losses, first, second), reduction, weights, union)


def _log_negatives(images: int, union: Union | None) -> float | Tensor:
    """Return log(2N - 2) with the N of all ranks."""
    return math.log(2 * images - 2) if union is None else (union.rows - 2).double().log()


def _agreed(
    loss: str,
    group: Group | None,
    exchange: Exchange,
    views: tuple[Tensor, Tensor],
    options: Options,
    weights: Tensor | None,
    facts: dict[str, object],
) -> tuple[Union | None, Options]:
    """Return the union of the ranks' rows, and the options for it."""
    rows = 2 * len(views[0])
    facts = {**facts, "weights given": weights is not None}
    return agreed(loss, group, exchange, views, (rows, rows), options, facts=facts, least=4)


def _check_views(z0: Tensor, z1: Tensor | None, group: Group | None) -> tuple[Tensor, Tensor]:
    if z1 is None:
        raise second_view_missing(z0)
    check_views(z0, z1)
    if len(z0) < 2 and group is None:
        raise ValueError(f"z0 must be [N, D] with N >= 2, got N = {len(z0)}: no negatives")
    return z0, z1


def _check_hard(beta: float, tau_plus: float) -> tuple[float, float]:
    beta, tau_plus = as_number(beta), as_number(tau_plus)
    check_range("beta", beta, 0)
    check_range("tau_plus", tau_plus, 0, 1)
    return beta, tau_plus


def _losses_of_views(
    z0: Tensor,
    z1: Tensor,
    options: Options,
    temperature: float | Tensor | None = None,
    union: Union | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the losses and lse [2N] over the negatives alone."""
    shifts = (len(z0), -len(z0))
    z = torch.cat([z0, z1])
    loss, lse, *_ = row_losses(
        z, None, options, temperature, shifts=shifts, denominator="negatives", union=union
    )
    return loss, lse


def _over_mean(exponent: Tensor, union: Union | None) -> Tensor:
    """Return exp(exponent) of each image over the mean of all images."""
    if union is None:
        return len(exponent) * torch.softmax(exponent, 0)
    images = union.rows.to(exponent) / 2
    return images * (exponent - union.log_sum_exp(exponent)).exp()


def _log_of_difference(a: Tensor, b: Tensor) -> Tensor:
    """Return log(e^a - e^b), or -inf where that is not positive."""
    difference = b - a
    positive = difference < 0
    # Where nothing is left, the logarithm would be NaN, and so its gradient.
    kept = torch.where(positive, difference, -1)
    return torch.where(positive, a + torch.log(-torch.expm1(kept)), -torch.inf)


def _rounded(losses: Tensor, z0: Tensor, z1: Tensor) -> Tensor:
    """Return losses that were computed with the lse, in double, in the dtype of the loss."""
    return losses.to(compute_dtype(torch.promote_types(z0.dtype, z1.dtype)))


class DCLLoss(ContrastiveLoss):
    """The decoupled contrastive loss as a module; see :func:`dcl_loss` for the equation.

    Args:
        temperature: T > 0; a number, or a floating tensor of shape [] or [1]. An ``nn.Parameter``
            is learned, and a parameter of the module; any other tensor is a buffer of it.
        sigma: As in :func:`dcl_loss`.
        group: As in :func:`dcl_loss`.
        exchange: As in :func:`dcl_loss`.
        reduction: As in :func:`dcl_loss`.
        normalize: As in :func:`dcl_loss`.
        eps: As in :func:`dcl_loss`.
        backend: As in :func:`dcl_loss`.
        max_scale: As in :class:`simclr_ext.NTXentLoss`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.

    Example:
        >>> criterion = DCLLoss(0.1, sigma=0.5)
        >>> criterion(torch.randn(8, 16), torch.randn(8, 16)).shape
        torch.Size([])
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        *,
        sigma: float | None = None,
        group: Group | None = None,
        exchange: Exchange = "gather",
        reduction: Reduction = "mean",
        normalize: bool = True,
        eps: float | None = None,
        backend: Backend = "auto",
        max_scale: float | None = None,
    ) -> None:
        super().__init__(
            temperature, reduction, normalize, eps, backend, max_scale, group, exchange
        )
        if sigma is not None:
            sigma = as_number(sigma)
            check_positive("sigma", sigma)
        self.sigma = sigma

    def forward(
        self, z0: Tensor, z1: Tensor | None = None, *, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss of the views ``z0`` and ``z1``, [N, D] each."""
        temperature = self.clamped_temperature()
        return dcl_loss(z0, z1, temperature, sigma=self.sigma, weights=weights, **self.options())


class HCLLoss(ContrastiveLoss):
    """The loss with hard, debiased negatives as a module; see :func:`hcl_loss` for the equation.

    Args:
        temperature: T > 0; a number, or a floating tensor of shape [] or [1]. An ``nn.Parameter``
            is learned, and a parameter of the module; any other tensor is a buffer of it.
        beta: As in :func:`hcl_loss`.
        tau_plus: As in :func:`hcl_loss`.
        group: As in :func:`hcl_loss`.
        exchange: As in :func:`hcl_loss`.
        reduction: As in :func:`hcl_loss`.
        normalize: As in :func:`hcl_loss`.
        eps: As in :func:`hcl_loss`.
        backend: As in :func:`hcl_loss`.
        max_scale: As in :class:`simclr_ext.NTXentLoss`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.

    Example:
        >>> criterion = HCLLoss(0.5, beta=1.0, tau_plus=0.1)
        >>> criterion(torch.randn(8, 16), torch.randn(8, 16)).shape
        torch.Size([])
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        *,
        beta: float = 1.0,
        tau_plus: float = 0.1,
        group: Group | None = None,
        exchange: Exchange = "gather",
        reduction: Reduction = "mean",
        normalize: bool = True,
        eps: float | None = None,
        backend: Backend = "auto",
        max_scale: float | None = None,
    ) -> None:
        super().__init__(
            temperature, reduction, normalize, eps, backend, max_scale, group, exchange
        )
        self.beta, self.tau_plus = _check_hard(beta, tau_plus)

    def forward(
        self, z0: Tensor, z1: Tensor | None = None, *, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss of the views ``z0`` and ``z1``, [N, D] each."""
        return hcl_loss(
            z0,
            z1,
            self.clamped_temperature(),
            beta=self.beta,
            tau_plus=self.tau_plus,
            weights=weights,
            **self.options(),
        )
