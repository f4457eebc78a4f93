"""SigLIP: a sigmoid for every pair of a query and a key, in place of a softmax over a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from simclr_ext._checks.scalars import as_number, as_scalar, check_scale
from simclr_ext._checks.tensors import check_columns, check_matrix
from simclr_ext.backends.reference import Reduction
from simclr_ext.backends.selection import Backend
from simclr_ext.backends.sigmoid import sigmoid
from simclr_ext.losses._options import Options, check_of_rows, promoted, reduce_weighted
from simclr_ext.losses._ranks import agreed, check_exchange, check_group, errors_reach_all

if TYPE_CHECKING:
    from simclr_ext.distributed import Exchange, Group


def siglip_loss(
    queries: Tensor,
    keys: Tensor,
    logit_scale: float | Tensor = 10.0,
    logit_bias: float | Tensor = -10.0,
    *,
    negative_only: bool = False,
    weights: Tensor | None = None,
    group: Group | None = None,
    exchange: Exchange = "gather",
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compute the sigmoid loss of queries and their keys, in O((N + K) D) memory.

    With s_ij the cosine similarity of query i and key j, c_ii = 1 and all other c_ij = -1,

    .. math:: \ell_i = -\sum_j \log \frac{1}{1 + \exp(-c_{ij} (t s_{ij} + b))}

    Args:
        queries: [N, D], N >= 1 and D >= 1, floating, any strides.
        keys: [K, D], K >= N; row i < N is the positive of query i, all others are negatives of it.
        logit_scale: t > 0; a number, or a floating tensor of shape [] or [1], which receives a
            gradient if it requires one. CLIP and SigLIP learn its logarithm.
        logit_bias: b; likewise, of any sign.
        negative_only: Whether all pairs are negatives: keys of another process; K >= 1 then.
        weights: [N] floating, >= 0: weights of the queries; receives a gradient if it requires one.
            The mean is then the weighted mean.
        group: The keys of all its processes are compared with the queries of each; the contract is
            that of :func:`simclr_ext.nt_xent_loss`.
        exchange: As in :func:`simclr_ext.nt_xent_loss`.
        reduction: ``"mean"`` or ``"sum"`` over the N queries, or ``"none"``: their losses, [N].
        normalize: Whether to divide each row by its l2 norm first. If not, s are dot products.
        eps: As in :func:`simclr_ext.nt_xent_loss`.
        backend: As in :func:`simclr_ext.nt_xent_loss`. On CUDA ``"fused"`` reads scale and bias
            where they are, so the host does not wait; a t <= 0 there makes the loss NaN.

    Returns:
        A scalar, or [N] losses; float32, or float64 for float64 rows.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape, device or value is not as above.
        BackendUnavailableError: As in :func:`simclr_ext.nt_xent_loss`.

    Example:
        >>> z = torch.eye(4)  # log 2 for the pair, 3 log(1 + e^-10) for the others
        >>> round(siglip_loss(z, z).item(), 4)
        0.6933

    Source: SigLIP (arXiv 2303.15343), section 3.2 and algorithm 1.
    """
    with errors_reach_all(group):
        check_matrix("queries", queries, "N")
        check_columns("keys", keys, "queries", queries)
        n = len(queries)
        if not negative_only and len(keys) < n:
            raise ValueError(f"keys must be [K, D] with K >= N = {n}, got K = {len(keys)}")
        logit_scale = as_scalar("logit_scale", logit_scale)
        logit_bias = as_scalar("logit_bias", logit_bias)
        options = Options.of(1.0, reduction, normalize, eps, backend)
        if weights is not None:
            check_of_rows("weights", weights, queries)
        check_group(group, exchange, options, queries)
    union, _ = agreed(
        "siglip_loss",
        group,
        exchange,
        (queries, keys),
        (n, len(keys)),
        options,
        scalars={"logit_scale": logit_scale, "logit_bias": logit_bias},
        facts={"negative_only": negative_only, "weights given": weights is not None},
    )
    eps = options.eps_for(queries.dtype, keys.dtype)
    queries, keys = promoted(queries, keys)
    compute = sigmoid
    if union is not None:
        compute = union.sigmoid
        logit_scale, logit_bias = union.shared(logit_scale), union.shared(logit_bias)
    rows = compute(
        queries,
        keys,
        logit_scale,
        logit_bias,
        normalize=normalize,
        eps=eps,
        backend=options.chosen_backend(queries),
        shifts=() if negative_only else (0,),
    )
    return reduce_weighted(rows, reduction, weights, union)


class SigLIPLoss(nn.Module):
    """The sigmoid loss as a module that learns scale and bias; see :func:`siglip_loss`.

    Args:
        init_logit_scale: The first t. The module learns its logarithm, ``log_scale``.
        init_logit_bias: The first b; the module learns it as ``bias``.
        group: As in :func:`siglip_loss`, like the next five.
        exchange: How the ranks' rows meet.
        reduction: Over the queries.
        normalize: Whether to divide each row by its l2 norm first.
        eps: Smallest norm.
        backend: What computes it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.

    Example:
        >>> criterion = SigLIPLoss()
        >>> criterion(torch.randn(8, 16), torch.randn(8, 16)).shape
        torch.Size([])
        >>> [name for name, _ in criterion.named_parameters()]
        ['log_scale', 'bias']

    Source: SigLIP (arXiv 2303.15343), section 3.2: t = 10 and b = -10 at the start.
    """

    def __init__(
        self,
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        *,
        group: Group | None = None,
        exchange: Exchange = "gather",
        reduction: Reduction = "mean",
        normalize: bool = True,
        eps: float | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        init_logit_scale, init_logit_bias = as_number(init_logit_scale), as_number(init_logit_bias)
        check_scale("init_logit_scale", init_logit_scale)
        check_exchange(exchange)
        options = Options.of(1.0, reduction, normalize, eps, backend)
        self.log_scale = nn.Parameter(torch.tensor(float(init_logit_scale)).log())
        self.bias = nn.Parameter(torch.tensor(float(init_logit_bias)))
        self.group = group
        self.exchange: Exchange = exchange
        self.reduction: Reduction = reduction
        self.normalize = normalize
        self.eps = options.eps
        self.backend: Backend = backend

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        *,
        negative_only: bool = False,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of queries [N, D] and keys [K, D]."""
        return siglip_loss(
            queries,
            keys,
            self.log_scale.exp(),
            self.bias,
            negative_only=negative_only,
            weights=weights,
            group=self.group,
            exchange=self.exchange,
            reduction=self.reduction,
            normalize=self.normalize,
            eps=self.eps,
            backend=self.backend,
        )
