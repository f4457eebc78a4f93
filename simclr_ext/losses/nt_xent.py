"""The NT-Xent loss as a function and as a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simclr_ext._checks.scalars import check_temperature_value, operator_temperature
from simclr_ext._checks.tensors import check_views, second_view_missing
from simclr_ext.backends import ops, reference
from simclr_ext.backends.reference import Reduction
from simclr_ext.backends.selection import Backend
from simclr_ext.losses._module import ContrastiveLoss
from simclr_ext.losses._options import (
    Options,
    check_ids,
    numbers_of,
    promoted,
    reduce_weighted,
    row_losses,
    weights_of_views,
    with_own_temperatures,
)
from simclr_ext.losses._ranks import agreed, check_exchange, check_group, errors_reach_all

if TYPE_CHECKING:
    from simclr_ext.distributed import Exchange, Group, Union


def nt_xent_loss(
    z0: Tensor,
    z1: Tensor | None = None,
    temperature: float | Tensor = 0.5,
    *,
    positive_ids: Tensor | None = None,
    ignore_ids: Tensor | None = None,
    weights: Tensor | None = None,
    group: Group | None = None,
    exchange: Exchange = "gather",
    reduction: Reduction = "mean",
    normalize: bool = True,
    eps: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compute SimCLR's NT-Xent loss of two batches of views, in O(N D) memory.

    With z the 2N rows of ``z0`` and ``z1``, s their cosine similarities and T the temperature,

    .. math:: \ell_i = -\log \frac{\exp(s_{i,p(i)} / T)}{\sum_{j \ne i} \exp(s_{ij} / T)},
              \qquad p(i) = (i + N) \bmod 2N

    The result and the gradients are exact (all 2N - 2 negatives of each row), and bitwise the same
    from run to run; those of the fused kernels also for any number of threads.

    One tensor with both views is split by the caller, as ``*z.chunk(2)`` if its rows are stacked,
    ``z[0::2], z[1::2]`` if they are interleaved, or ``*z.unbind(1)`` if it is [N, 2, D]. These
    slices copy nothing. There is no argument for it: the shape [2N, D] does not tell the layouts
    apart, so a default would pair wrong rows in silence.

    Args:
        z0: Embeddings of the first views, [N, D], N >= 1 and D >= 1, any strides; float64 is
            computed in float64, float32 and float16 in float32. bfloat16 is multiplied as bfloat16
            where the processor can, with sums and exponentials in float32.
        z1: Embeddings of the second views, of the shape and device of ``z0``; row i is the
            positive of row i of ``z0``. Views of two dtypes are promoted as ``torch.cat`` does.
            Required: without it the error says how to split ``z0``.
        temperature: T > 0, normal in float32 like 1 / T (1.2e-38 to 8.5e37); a number, or a
            floating tensor of shape [] or [1], which receives a gradient if it requires one; or
            [N]: one for each image, for both of its rows (twice the work: S / T is not symmetric).
            The value of a tensor on CUDA is not checked, so that the host need not wait for it: one
            that is out of range gives NaN.
        positive_ids: [N] integers: all views of images with equal ids are positives of each other,
            and a row's loss is the mean over its positives, as in :func:`sup_con_loss`.
        ignore_ids: [N] integers: other images with the same id (duplicates, the same patient) are
            left out of the denominator, unless they are positive.
        weights: [N] floating, >= 0: weights of the images, for both of their rows; receives a
            gradient if it requires one. The mean is then the weighted mean.
        group: Negatives from all processes of a ``ProcessGroup``, a one-dimensional ``DeviceMesh``
            or ``(mesh, dimension)``: the value on every rank is that of the union of the ranks'
            batches, of which each may have another N. Gradients are those of the sum over the
            ranks of the returned values, so that the average that DDP and FSDP take is the
            gradient of one process on the union batch; that of a temperature is already the same
            on all ranks. With ``reduction="none"`` the losses are those of this rank's rows. None:
            negatives of this process alone.
        exchange: How the ranks' rows meet, where each pair of two ranks' rows is compared once in
            the whole job. ``"gather"``: every rank holds all rows. ``"ring"``: blocks of rows
            travel, and a rank holds those of two ranks.
        reduction: ``"mean"`` or ``"sum"`` over the 2N rows, or ``"none"``: the losses of all rows,
            [2N], those of ``z0`` first.
        normalize: Whether to divide each row by its l2 norm first. If not, s are dot products.
        eps: Rows with a norm below this are divided by it instead, as in ``F.normalize``. At least
            1.2e-38; by default 1e-12, and with a float16 view its smallest normal number, 6.1e-5.
        backend: ``"fused"``: compiled kernels. ``"tiled"``: the same algorithm in PyTorch
            operations, for any device and without a compiler. Both are differentiable once.
            ``"reference"``: plain PyTorch with the 2N x 2N matrix in memory; differentiable any
            number of times. ``"auto"``: fused on the CPU and, where the kernels support the views,
            on CUDA; else tiled, with a warning on CUDA. :func:`simclr_ext.select_backend` returns
            which one runs and why.

    Returns:
        A scalar, or [2N] losses; float32, or float64 for float64 views.

    Raises:
        TypeError: If an argument has the wrong type, a view has the wrong dtype, or one is missing.
        ValueError: If a shape, device, temperature, eps or name is not as above, or arguments
            differ between the ranks of a group.
        BackendUnavailableError: If ``"fused"`` is requested and does not support these views, or
            the CPU kernels cannot be compiled.

    Example:
        >>> z0, z1 = torch.eye(4, requires_grad=True), torch.eye(4)
        >>> loss = nt_xent_loss(z0, z1, temperature=0.5)  # log(e^2 + 6) - 2
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.5944
        >>> z = torch.cat([z0, z1])  # one tensor, stacked
        >>> round(nt_xent_loss(*z.chunk(2), temperature=0.5).item(), 4)
        0.5944

    Source: SimCLR (arXiv 2002.05709), section 2.1, equation 1.
    """
    if group is not None:
        settings = (reduction, normalize, eps, backend)
        ids = (positive_ids, ignore_ids)
        return _over_ranks(z0, z1, temperature, ids, weights, settings, group, exchange)
    check_exchange(exchange)
    z0, z1 = checked_views(z0, z1)
    options = Options.of(temperature, reduction, normalize, eps, backend, rows=z0)
    weights = weights_of_views(weights, z0)
    if options.of_rows or not (positive_ids is None and ignore_ids is None):
        check_ids_of_views(z0, options, positive_ids, ignore_ids)
        rows = _general_losses(z0, z1, options, positive_ids, ignore_ids)
    elif weights is not None:
        rows = _losses(z0, z1, options, "none")
    else:
        return _losses(z0, z1, options, reduction)
    return reduce_weighted(rows, reduction, weights)


def checked_views(z0: Tensor, z1: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return both views; raise TypeError or ValueError if one is missing or wrong."""
    if z1 is None:
        raise second_view_missing(z0)
    if isinstance(z1, Tensor) and z1.ndim == 1 and z1.dtype == torch.int64:
        raise ValueError(
            f"z1 must be the second views, [N, D], got shape {tuple(z1.shape)}: with labels, "
            "sup_con_loss(z0, labels) is the loss"
        )
    check_views(z0, z1)
    return z0, z1


def _over_ranks(
    z0: Tensor,
    z1: Tensor | None,
    temperature: float | Tensor,
    ids: tuple[Tensor | None, Tensor | None],
    weights: Tensor | None,
    settings: tuple[Reduction, bool, float | None, Backend],
    group: Group,
    exchange: Exchange,
) -> Tensor:
    """Return the loss of the union batch."""
    with errors_reach_all(group):
        first, second = checked_views(z0, z1)
        n = len(first)
        options = Options.of(temperature, *settings, rows=first)
        weights = weights_of_views(weights, first)
        check_ids_of_views(first, options, *ids)
        labels = None if ids[0] is None else "positive_ids"
        check_group(group, exchange, options, first, labels=labels)
    union, options = agreed(
        "nt_xent_loss",
        group,
        exchange,
        (first, second),
        (2 * n, 2 * n),
        options,
        facts={
            "positive_ids given": ids[0] is not None,
            "ignore_ids given": ids[1] is not None,
            "weights given": weights is not None,
        },
    )
    rows = _general_losses(first, second, options, *ids, union)
    return reduce_weighted(rows, options.reduction, weights, union)


def _losses(z0: Tensor, z1: Tensor, options: Options, reduction: Reduction) -> Tensor:
    """Return the reduced losses of both views by the operators of NT-Xent itself."""
    eps = options.eps_for(z0.dtype, z1.dtype)
    z0, z1 = promoted(z0, z1)
    backend = options.chosen_backend(z0)
    temperature = options.temperature
    if backend == "reference":
        value = operator_temperature(temperature, z0.device)
        if not torch.compiler.is_compiling():  # reading the value would break the graph
            check_temperature_value(value)
        return reference.nt_xent(
            z0, z1, temperature, reduction=reduction, normalize=options.normalize, eps=eps
        )
    return ops.nt_xent(
        z0,
        z1,
        temperature,
        reduction=reduction,
        normalize=options.normalize,
        eps=eps,
        backend=backend,
    )


def check_ids_of_views(
    z0: Tensor, options: Options, positive_ids: Tensor | None, ignore_ids: Tensor | None
) -> None:
    """Raise TypeError or ValueError unless these are ids of the images, or None."""
    check_ids("positive_ids", positive_ids, len(z0), z0.device)
    check_ids("ignore_ids", ignore_ids, len(z0), z0.device)
    if options.of_rows and positive_ids is not None:
        raise ValueError("positive_ids need one temperature, got one for each image")


def _general_losses(
    z0: Tensor,
    z1: Tensor,
    options: Options,
    positive_ids: Tensor | None,
    ignore_ids: Tensor | None,
    union: Union | None = None,
) -> Tensor:
    """Return the losses [2N] with other positives, fewer negatives, or a temperature per row.

    With a union its ranks' rows are negatives, too.
    """
    n = len(z0)
    z = torch.cat([z0, z1])
    label, ignored, shifts = pairing_of(n, positive_ids, ignore_ids, union)
    if not options.of_rows:
        return row_losses(
            z, None, options, shifts=shifts, label=label, ignored=ignored, union=union
        )[0]
    # A rectangle, in which a row meets itself: its own number leaves that pair out.
    if ignored is None:
        ignored = torch.arange(2 * n, dtype=torch.int32, device=z.device)
        if union is not None:
            ignored = ignored + union.rows_before.to(ignored)
    temperature = torch.as_tensor(options.temperature).repeat(2)
    options = options.changed(temperature=temperature)
    x, y, options = with_own_temperatures(z, z, options, union)
    losses = row_losses(x, y, options, shifts=shifts, ignored=ignored.repeat(2), union=union)[0]
    return losses[: 2 * n]


def pairing_of(
    n: int,
    positive_ids: Tensor | None,
    ignore_ids: Tensor | None,
    union: Union | None = None,
) -> tuple[Tensor | None, Tensor | None, tuple[int, ...]]:
    """Return label, ignored and shifts of the 2N rows; the ids are checked."""
    label, ignored = (
        None if ids is None else numbers_of(ids.repeat(2), union)
        for ids in (positive_ids, ignore_ids)
    )
    return label, ignored, () if label is not None else (n, -n)


class NTXentLoss(ContrastiveLoss):
    """SimCLR's NT-Xent loss as a module; see :func:`nt_xent_loss` for the equation.

    Takes the arguments of ``lightly.loss.NTXentLoss`` under the same names, in the same order, and
    returns the same value in one process; over several processes that of the union batch, where
    lightly's, like ``simclr_ext.compat.lightly.NTXentLoss``, is that of the rank.

    Args:
        temperature: T > 0; a number, or a floating tensor of shape [] or [1]. An ``nn.Parameter``
            is learned, and a parameter of the module; any other tensor is a buffer of it.
        memory_bank_size: Must be 0; there is no memory bank.
        gather_distributed: Whether ``group`` is the group of all processes. With one process, or
            without process groups, it changes nothing.
        group: As in :func:`nt_xent_loss`.
        exchange: As in :func:`nt_xent_loss`.
        reduction: As in :func:`nt_xent_loss`.
        normalize: As in :func:`nt_xent_loss`.
        eps: As in :func:`nt_xent_loss`.
        backend: As in :func:`nt_xent_loss`.
        max_scale: If given, the loss uses max(T, 1 / max_scale) of a temperature that is a tensor;
            CLIP has 100. CLIP clamps its parameter in place after every step; here the parameter
            is left alone, so that the module works under ``torch.func``, FSDP and compilation.
            Instead, below 1 / max_scale it gets the gradient at 1 / max_scale if a descent along
            it raises T, and else 0: so it neither drifts off nor gets stuck.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed.
        NotImplementedError: If a memory bank is requested.

    Example:
        >>> criterion = NTXentLoss(temperature=0.1)
        >>> z0, z1 = torch.randn(256, 128), torch.randn(256, 128)
        >>> criterion(z0, z1).shape
        torch.Size([])
        >>> learned = NTXentLoss(torch.nn.Parameter(torch.tensor(0.07)), max_scale=100)
        >>> [name for name, _ in learned.named_parameters()]
        ['temperature']

    Source: for ``max_scale``, CLIP (arXiv 2103.00020), section 2.5.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        memory_bank_size: int = 0,
        gather_distributed: bool = False,
        *,
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
        if memory_bank_size != 0:
            raise NotImplementedError(
                f"memory_bank_size must be 0, got {memory_bank_size!r}; "
                "simclr_ext.compat.lightly.NTXentLoss has a memory bank"
            )
        if gather_distributed and group is not None:
            raise ValueError("group must be None with gather_distributed=True, which is a group")
        self.gather_distributed = gather_distributed

    def forward(
        self,
        z0: Tensor,
        z1: Tensor | None = None,
        *,
        positive_ids: Tensor | None = None,
        ignore_ids: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of the views ``z0`` and ``z1``, [N, D] each."""
        options = self.options()
        if self.gather_distributed:
            options["group"] = _all_processes()
        return nt_xent_loss(
            z0,
            z1,
            self.clamped_temperature(),
            positive_ids=positive_ids,
            ignore_ids=ignore_ids,
            weights=weights,
            **options,
        )


# Dynamo runs it while it traces: the number of processes does not change.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _all_processes() -> Group | None:
    """Return the group of all processes, or None if there is one process."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.group.WORLD if distributed.get_world_size() > 1 else None
