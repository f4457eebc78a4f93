"""InfoNCE: queries against keys, one-sided or symmetric (CLIP), with a queue (MoCo)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simclr_ext._checks.scalars import as_temperature
from simclr_ext._checks.tensors import check_columns, check_views
from simclr_ext.backends.reference import Reduction, compute_dtype
from simclr_ext.backends.selection import Backend
from simclr_ext.losses._module import ContrastiveLoss
from simclr_ext.losses._options import (
    Options,
    check_ids,
    check_of_rows,
    numbers_of,
    reduce_weighted,
    row_losses,
    unit_rows,
    with_own_temperatures,
)
from simclr_ext.losses._ranks import agreed, check_group, errors_reach_all

if TYPE_CHECKING:
    from simclr_ext.distributed import Exchange, Group, Union


def info_nce_loss(
    queries: Tensor,
    keys: Tensor,
    temperature: float | Tensor | None = None,
    *,
    logit_scale: float | Tensor | None = None,
    negatives: Tensor | None = None,
    in_batch: bool = True,
    symmetric: bool = False,
    ignore_ids: Tensor | None = None,
    weights: Tensor | None = None,
    group: Group | None = None,
    exchange: Exchange = "gather",
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compute the InfoNCE loss of queries and their keys, in O((N + K) D) memory.

    With s_ij the cosine similarity of query i and column j, where the columns are the N keys and
    then the K negatives,

    .. math:: \ell_i = -\log \frac{\exp(s_{ii} / T)}{\sum_j \exp(s_{ij} / T)}

    | you want | you pass |
    |---|---|
    | one-sided, other keys as negatives | queries, keys |
    | CLIP: the mean of both directions | ``symmetric=True, logit_scale=model.logit_scale.exp()`` |
    | MoCo: negatives of a queue alone | ``negatives=queue, in_batch=False`` |

    Args:
        queries: [N, D], N >= 1 and D >= 1, floating, any strides.
        keys: [N, D]; row i is the positive of query i.
        temperature: T > 0, 0.07 by default; a number, or a floating tensor of shape [] or [1],
            which receives a gradient if it requires one; or [N]: one for each query, and, if
            symmetric, for its key.
        logit_scale: Instead of a temperature, 1 / T > 0; a number, or a floating tensor of shape []
            or [1].
        negatives: [K, D], K >= 1: further columns that are nobody's positives. They receive a
            gradient if they require one; a queue does not.
        in_batch: Whether the other keys are negatives, too. False needs ``negatives``.
        symmetric: Whether the keys are also compared with all queries, but not with ``negatives``.
        ignore_ids: [N] integers: a query and the key of another with the same id are left out of
            the denominator.
        weights: [N] floating, >= 0: weights of the pairs; receives a gradient if it requires one.
            The mean is then the weighted mean.
        group: The keys and queries of all its processes are compared; the contract is that of
            :func:`simclr_ext.nt_xent_loss`. ``negatives`` are of this process's queries alone.
        exchange: As in :func:`simclr_ext.nt_xent_loss`.
        reduction: ``"mean"`` or ``"sum"`` over the N queries, or over queries and keys, 2N, if
            symmetric; or ``"none"``: the losses of all of them, queries first.
        normalize: Whether to divide each row by its l2 norm first. If not, s are dot products.
        eps: As in :func:`simclr_ext.nt_xent_loss`.
        backend: As in :func:`simclr_ext.nt_xent_loss`.

    Returns:
        A scalar, or [N] or [2N] losses; float32, or float64 for float64 rows.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a shape, device or value is not as above.
        BackendUnavailableError: As in :func:`simclr_ext.nt_xent_loss`.

    Example:
        >>> queries, keys, queue = torch.eye(4), torch.eye(4), -torch.eye(4)
        >>> round(info_nce_loss(queries, keys, 0.5).item(), 4)  # log(e^2 + 3) - 2
        0.3408
        >>> round(info_nce_loss(queries, keys, 0.5, negatives=queue, in_batch=False).item(), 4)
        0.3537

    Source: CPC (arXiv 1807.03748), equation 4; CLIP (arXiv 2103.00020), figure 3; MoCo
    (arXiv 1911.05722), equation 1, and section 4.1 for the temperature.
    """
    with errors_reach_all(group):
        check_views(queries, keys, names=("queries", "keys"))
        n = len(queries)
        temperature = _temperature(temperature, logit_scale)
        options = Options.of(temperature, reduction, normalize, eps, backend, rows=queries)
        _check_negatives(queries, negatives, in_batch, symmetric)
        if weights is not None:
            check_of_rows("weights", weights, queries)
        check_ids("ignore_ids", ignore_ids, n, keys.device)
        check_group(group, exchange, options, queries)
    union, options = agreed(
        "info_nce_loss",
        group,
        exchange,
        (queries, keys),
        (n, n),
        options,
        facts={
            "negatives given": negatives is not None,
            "in_batch": in_batch,
            "symmetric": symmetric,
            "ignore_ids given": ignore_ids is not None,
            "weights given": weights is not None,
        },
    )
    numbers = None if ignore_ids is None else numbers_of(ignore_ids, union)
    if negatives is not None and not in_batch:
        rows = _losses_of_queue(queries, keys, negatives, options)
    else:
        rows = _losses(queries, keys, negatives, numbers, options, union)
    if not symmetric:
        rows = rows[:n]
    elif options.of_rows:
        rows = torch.cat([rows[:n], _losses(keys, queries, None, numbers, options, union)[:n]])
    else:
        rows = rows[: 2 * n]
    if symmetric and weights is not None:
        weights = weights.repeat(2)
    return reduce_weighted(rows, reduction, weights, union)


def _check_negatives(
    queries: Tensor, negatives: Tensor | None, in_batch: bool, symmetric: bool
) -> None:
    if negatives is not None:
        check_columns("negatives", negatives, "queries", queries)
    elif not in_batch:
        raise ValueError("in_batch=False needs negatives, got None")
    if symmetric and not in_batch:
        raise ValueError("symmetric=True needs in_batch=True: a key's negatives are other queries")


def _temperature(
    temperature: float | Tensor | None, logit_scale: float | Tensor | None
) -> float | Tensor:
    if logit_scale is None:
        return 0.07 if temperature is None else temperature
    if temperature is not None:
        raise ValueError("temperature and logit_scale exclude each other, got both")
    return 1 / as_temperature(logit_scale, "logit_scale")


def _losses(
    queries: Tensor,
    keys: Tensor,
    negatives: Tensor | None,
    numbers: Tensor | None,
    options: Options,
    union: Union | None,
) -> Tensor:
    """Return the losses of the queries over all columns, then of the keys over the queries.

    With a temperature for each query, only the former are meaningful.
    """
    if union is not None:
        return _losses_of_union(queries, keys, negatives, numbers, options, union)
    columns = keys
    if negatives is not None:
        dtype = torch.promote_types(keys.dtype, negatives.dtype)
        columns = torch.cat([keys.to(dtype), negatives.to(dtype)])
    ignored = None
    if numbers is not None:
        others = numbers.new_full((len(columns) - len(keys),), -1)  # a number that no key has
        ignored = torch.cat([numbers, numbers, others])
    if options.of_rows:
        queries, columns, options = with_own_temperatures(queries, columns, options)
    return row_losses(queries, columns, options, shifts=(0,), ignored=ignored)[0]


def _losses_of_union(
    queries: Tensor,
    keys: Tensor,
    negatives: Tensor | None,
    numbers: Tensor | None,
    options: Options,
    union: Union,
) -> Tensor:
    """Return the same over the keys of all ranks and the negatives of this one."""
    n, ignored = len(queries), None if numbers is None else numbers.repeat(2)
    x, y, of_keys = queries, keys, options
    if options.of_rows:
        x, y, of_keys = with_own_temperatures(queries, keys, options, union)
    loss, lse = row_losses(x, y, of_keys, shifts=(0,), ignored=ignored, union=union)
    if negatives is None:
        return loss
    difference = _lse_of_queue(queries, negatives, options) - lse[:n]
    more = torch.logaddexp(difference, torch.zeros_like(difference)).to(loss.dtype)
    return torch.cat([loss[:n] + more, loss[n:]])


def _losses_of_queue(queries: Tensor, keys: Tensor, negatives: Tensor, options: Options) -> Tensor:
    """Return the losses [N] of the queries over their own keys and the negatives.

    The keys are no columns: that saves N^2 similarities, and the gradient of a queue that needs
    none.
    """
    eps = options.eps_for(queries.dtype, keys.dtype)
    dtype = compute_dtype(torch.promote_types(queries.dtype, keys.dtype))
    pair = [z.to(dtype) for z in (queries, keys)]
    if options.normalize:
        pair = [unit_rows(z, eps) for z in pair]
    t = options.temperature
    positive = (pair[0] * pair[1]).sum(1) / (t.to(pair[0]) if isinstance(t, Tensor) else t)
    difference = _lse_of_queue(queries, negatives, options) - positive
    return torch.logaddexp(difference, torch.zeros_like(difference)).to(dtype)


def _lse_of_queue(queries: Tensor, negatives: Tensor, options: Options) -> Tensor:
    """Return the lse [N] of the queries over the negatives."""
    n = len(queries)
    if options.of_rows:
        queries, negatives, options = with_own_temperatures(queries, negatives, options)
    return row_losses(queries, negatives, options)[1][:n]


class InfoNCELoss(ContrastiveLoss):
    """The InfoNCE loss as a module; see :func:`info_nce_loss` for the equation.

    Args:
        temperature: T > 0; a number, or a floating tensor of shape [] or [1]. An ``nn.Parameter``
            is learned, and a parameter of the module; any other tensor is a buffer of it.
        in_batch: As in :func:`info_nce_loss`.
        symmetric: As in :func:`info_nce_loss`.
        group: As in :func:`info_nce_loss`.
        exchange: As in :func:`info_nce_loss`.
        reduction: As in :func:`info_nce_loss`.
        normalize: As in :func:`info_nce_loss`.
        eps: As in :func:`info_nce_loss`.
        backend: As in :func:`info_nce_loss`.
        max_scale: As in :class:`simclr_ext.NTXentLoss`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.

    Example:
        >>> temperature = torch.nn.Parameter(torch.tensor(0.07))
        >>> clip = InfoNCELoss(temperature, symmetric=True, max_scale=100)
        >>> clip(torch.randn(8, 16), torch.randn(8, 16)).shape
        torch.Size([])
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        in_batch: bool = True,
        symmetric: bool = False,
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
        self.in_batch = in_batch
        self.symmetric = symmetric

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        negatives: Tensor | None = None,
        *,
        ignore_ids: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of queries and keys, [N, D] each, and negatives, [K, D]."""
        return info_nce_loss(
            queries,
            keys,
            self.clamped_temperature(),
            negatives=negatives,
            in_batch=self.in_batch,
            symmetric=self.symmetric,
            ignore_ids=ignore_ids,
            weights=weights,
            **self.options(),
        )
