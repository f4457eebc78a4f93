"""The operators: checks, the forward and the backward pass, and NT-Xent as one of the pairings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simclr_ext._checks.pairs import check_operands
from simclr_ext._checks.saved import check_contrastive_saved, check_saved, check_saved_row
from simclr_ext._checks.scalars import (
    check_eps,
    check_operator_temperature,
    check_temperature_value,
)
from simclr_ext._checks.tensors import check_data, check_operator_views, check_rows
from simclr_ext.backends.reference import Denominator
from simclr_ext.backends.tiled.pair_weights import PairWeights, grad_of_rows
from simclr_ext.backends.tiled.pairing import Pairing
from simclr_ext.backends.tiled.problem import Problem
from simclr_ext.backends.tiled.row_sums import RowSums
from simclr_ext.backends.tiled.rows import (
    HALF_TYPES,
    join_rows,
    no_autocast,
    stored_rows,
    sum_dtype,
    undo_normalization,
)
from simclr_ext.backends.tiled.tiles import Tiles


def contrastive_forward(
    x: Tensor,
    y: Tensor | None,
    temperature: Tensor,
    normalize: bool,
    eps: float,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: Denominator,
    owned: Sequence[int],
) -> tuple[Tensor, ...]:
    r"""Compute the losses of :func:`simclr_ext.backends.reference.contrastive`.

    .. math:: \ell_i = \log \sum_j \exp(s_{ij} / T) - \frac{1}{n_i T} \sum_{j \in p(i)} s_{ij}

    Args:
        x: Rows, [R, D], floating; half types are computed in float32.
        y: Columns, [C, D], of the dtype and device of ``x``; None: the rows x, without the pairs
            (i, i).
        temperature: T > 0, 0-d float64 on the CPU.
        normalize: Whether to divide each row and column by max(norm, eps) first.
        eps: At least 1.2e-38.
        shifts: The positives p(i) of row i are the columns i + shift that exist; at most two
            shifts, and () or (k, -k) if y is None.
        label: int32, one for each row of [x; y], instead of ``shifts``: all columns with the same
            label are positive.
        ignored: int32, one for each row of [x; y]: pairs of equal numbers are not terms of the
            sum, unless they are positive.
        denominator: Which pairs are terms of the sum: "all", "negatives" or "positives".
        owned: If y is None, () or begin and end of the rows whose losses are computed.

    Returns:
        loss and lse (in :func:`sum_dtype`), each [R + C]: of the rows over the columns, then of
        the columns over the rows; [R] if y is None, or one per owned row. The rows z of [x; y] and
        inv_norm, as :func:`join_rows` returns them.
    """
    check_rows(x, y)
    check_operator_temperature(temperature)
    check_eps(eps)
    columns = None if y is None else len(y)
    check_operands(len(x), columns, shifts, label, ignored, denominator, owned, x.device)
    check_data(x=x, y=y, temperature=temperature, label=label, ignored=ignored)
    parts = [x] if y is None else [x, y]
    problem = Problem.of(sum(map(len, parts)), len(x), owned)
    pairing = Pairing.of(problem, shifts, label, ignored, denominator)
    return _forward(parts, problem, pairing, temperature, normalize, eps)


def contrastive_stats(
    x: Tensor,
    y: Tensor | None,
    temperature: Tensor,
    normalize: bool,
    eps: float,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
) -> tuple[Tensor, ...]:
    """Compute what ``contrastive_stats`` of csrc/simclr_ext.h does.

    Args:
        x: As :func:`contrastive_forward` takes it, like all others.
        y: [C, D] or None.
        temperature: 0-d.
        normalize: Whether to normalize.
        eps: At least 1.2e-38.
        shifts: At most two.
        label: One for each row of [x; y], or None.
        ignored: One for each row of [x; y], or None.

    Returns:
        The four results of :func:`contrastive_forward`; then, for each row of z, the mean
        similarity of the positives (NaN without any), the largest similarity of a negative, its row
        of z, the mean similarity of the terms weighted by their softmax, and
        sum_j exp(-2 |z_i - z_j|^2) over the negatives.
    """
    check_rows(x, y)
    check_operator_temperature(temperature)
    check_eps(eps)
    columns = None if y is None else len(y)
    check_operands(len(x), columns, shifts, label, ignored, "all", (), x.device)
    check_data(x=x, y=y, temperature=temperature, label=label, ignored=ignored)
    parts = [x] if y is None else [x, y]
    problem = Problem.of(sum(map(len, parts)), len(x))
    pairing = Pairing.of(problem, shifts, label, ignored)
    return _forward(parts, problem, pairing, temperature, normalize, eps, with_stats=True)


def contrastive_backward(
    grad_loss: Tensor,
    grad_lse: Tensor | None,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    dim: int,
    rows: int,
    temperature: Tensor,
    eps: float,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: Denominator,
    owned: Sequence[int],
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of sum_k grad_loss[k] loss[k] + grad_lse[k] lse[k].

    Args:
        grad_loss: One for each row of z, [R + C] or [R]. Even if only some rows are owned,
            this and the next three are those of all rows.
        grad_lse: Likewise; None: zeros.
        loss: As :func:`contrastive_forward` returned it, like the next three.
        lse: [R + C] or [R].
        z: [R + C, D] or [R, D].
        inv_norm: [R + C] or [R], or [0].
        dim: D.
        rows: R.
        temperature: As in the forward pass, like the next six.
        eps: At least 1.2e-38.
        shifts: At most two.
        label: One for each row of z.
        ignored: One for each row of z.
        denominator: Which pairs are terms of the sum.
        owned: () or begin and end of the rows for which a gradient is computed: the gradient of
            the losses of all rows.
        needs_grad: Whether x, y and the temperature need a gradient.

    Returns:
        The gradient of the raw rows of x and y, or of the one that needs it; if y is None, of the
        rows x, or of the owned ones. And the gradient of the temperature, 0-d in the dtype and on
        the device of ``lse``, or [0] if it needs none; with ``owned`` it is this rank's share of
        the sum.
    """
    check_contrastive_saved(grad_loss, loss, lse, z, inv_norm, dim, rows)
    _check_layout("R + C" if len(z) > rows else "R", z, loss, lse, dim)
    check_operator_temperature(temperature)
    check_eps(eps)
    columns = len(z) - rows or None
    check_operands(rows, columns, shifts, label, ignored, denominator, owned, z.device)
    problem = Problem.of(len(z), rows, owned)
    pairing = Pairing.of(problem, shifts, label, ignored, denominator)
    if grad_lse is not None:
        check_saved_row("grad_lse", grad_lse, z)
    check_data(grad_loss=grad_loss, grad_lse=grad_lse, loss=loss, lse=lse, z=z)
    check_data(inv_norm=inv_norm, temperature=temperature, label=label, ignored=ignored)
    saved = (grad_loss, grad_lse, loss, lse, z, inv_norm)
    wanted = problem.wanted(needs_grad)
    return _backward(*saved, problem, pairing, temperature, eps, wanted, needs_grad[2])


def nt_xent_forward(
    z0: Tensor, z1: Tensor, temperature: Tensor, normalize: bool, eps: float
) -> tuple[Tensor, ...]:
    """Compute what ``nt_xent_forward`` of csrc/simclr_ext.h does.

    Args:
        z0: Views, [N, D], floating; half types are computed in float32.
        z1: Views, [N, D], of the dtype and device of ``z0``.
        temperature: T > 0, 0-d float64 on the CPU.
        normalize: Whether to divide each row by max(norm, eps) first.
        eps: At least 1.2e-38.

    Returns:
        loss [2N]; lse [2N] in :func:`sum_dtype`; the rows z [2N, D] and inv_norm [2N] or [0], as
        :func:`join_rows` returns them.
    """
    check_operator_views(z0, z1)
    check_operator_temperature(temperature)
    check_data(z0=z0, z1=z1, temperature=temperature)
    check_eps(eps)
    problem, pairing = _nt_xent(2 * len(z0))
    return _forward([z0, z1], problem, pairing, temperature, normalize, eps)


def nt_xent_backward(
    grad_loss: Tensor,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    dim: int,
    temperature: Tensor,
    eps: float,
    needs_grad: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Compute what ``nt_xent_backward`` of csrc/simclr_ext.h does.

    Args:
        grad_loss: Gradient of the objective with respect to the losses, [2N].
        loss: As :func:`nt_xent_forward` returned it, like the next three.
        lse: [2N].
        z: [2N, D].
        inv_norm: [2N] or [0].
        dim: D.
        temperature: As in the forward pass, like eps.
        eps: At least 1.2e-38.
        needs_grad: Whether z0, z1 and the temperature need a gradient.

    Returns:
        The gradient of the raw rows, [2N, D], or [N, D] if only one view needs it; and the
        gradient of the temperature, 0-d in the dtype and on the device of ``lse``, or [0] if it
        needs none.
    """
    check_saved(grad_loss, loss, lse, z, inv_norm, dim)
    _check_layout("2N", z, loss, lse, dim)
    check_operator_temperature(temperature)
    check_data(grad_loss=grad_loss, loss=loss, lse=lse, z=z, inv_norm=inv_norm)
    check_data(temperature=temperature)
    check_eps(eps)
    needs_z0, needs_z1, needs_temperature = needs_grad
    n = len(z) // 2
    wanted = slice(
        0 if needs_z0 or needs_temperature else n, 2 * n if needs_z1 or needs_temperature else n
    )
    problem, pairing = _nt_xent(len(z))
    saved = (grad_loss, None, loss, lse, z, inv_norm)
    return _backward(*saved, problem, pairing, temperature, eps, wanted, needs_temperature)


def _nt_xent(size: int) -> tuple[Problem, Pairing]:
    problem = Problem.of(size, size)
    return problem, Pairing.of(problem, (size // 2, -(size // 2)))


def _forward(
    parts: Sequence[Tensor],
    problem: Problem,
    pairing: Pairing,
    temperature: Tensor,
    normalize: bool,
    eps: float,
    *,
    with_stats: bool = False,
) -> tuple[Tensor, ...]:
    value = check_temperature_value(temperature)
    with torch.no_grad(), no_autocast(parts[0].device):
        z, inv_norm = join_rows(parts, normalize, eps)
        tiles = Tiles(stored_rows(z, inv_norm), problem, pairing, value, normalize)
        sums = RowSums(tiles, with_stats=with_stats)
        for tile in tiles.schedule:
            sums.add(tiles.compute(tile), tile)
        loss, lse = sums.finish()
        stats = sums.stats() if with_stats else ()
    return (loss, lse, z, inv_norm, *stats)


def _backward(
    grad_loss: Tensor,
    grad_lse: Tensor | None,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    problem: Problem,
    pairing: Pairing,
    temperature: Tensor,
    eps: float,
    wanted: slice,
    needs_temperature: bool,
) -> tuple[Tensor, Tensor]:
    value = check_temperature_value(temperature)
    with torch.no_grad(), no_autocast(z.device):
        rows = stored_rows(z, inv_norm)
        tiles = Tiles(rows, problem, pairing, value, inv_norm.numel() > 0)
        grad_z = grad_of_rows(PairWeights(tiles, grad_loss, grad_lse, loss, lse), tiles, wanted)
        radial = undo_normalization(grad_z, rows.part(wanted), inv_norm[wanted], eps)
        grad_z = grad_z.to(z.dtype)
        if not needs_temperature:
            return grad_z, lse.new_empty(0)
        # If the columns are the rows, each pair is in two row sums; otherwise only in its row's.
        times = 2 if problem.same else 1
        total = radial[: problem.rows].sum(dtype=lse.dtype)
        return grad_z, total / (-times * value)


def _check_layout(size: str, z: Tensor, loss: Tensor, lse: Tensor, dim: int) -> None:
    if z.shape[1] != dim:
        raise ValueError(f"z must be [{size}, D] with D = dim = {dim}, got shape {list(z.shape)}")
    if z.dtype not in (loss.dtype, *HALF_TYPES):
        raise TypeError(f"z must have the dtype of loss, {loss.dtype}, got {z.dtype}")
    if lse.dtype != sum_dtype(lse.device):
        raise TypeError(f"lse must be {sum_dtype(lse.device)}, got {lse.dtype}")
