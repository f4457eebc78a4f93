"""The operators over ranks: opaque to torch.compile, which sees tensors of this rank alone.

They name the group by its ``group_name``, and read the ranks' sizes when they run. All ranks must
call them in the same order, also where a compiler might reorder independent calls, for each rank
in another way: each takes the token of the one before as ``after``, and returns a new one, last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from simclr_ext._checks.pairs import check_operands
from simclr_ext._checks.saved import (
    check_contrastive_saved,
    check_saved_row,
    check_sigmoid_saved,
)
from simclr_ext._checks.scalars import check_eps
from simclr_ext._checks.tensors import check_data, check_rows
from simclr_ext._torch_compat import OPERATOR_TAGS
from simclr_ext.backends.tiled.sigmoid import scalar_values
from simclr_ext.distributed import agreement, contrastive, fake, numbers
from simclr_ext.distributed.arguments import (
    check_integers,
    check_names,
    check_operation,
    check_pairing,
    check_sizes,
    check_temperature,
    check_values,
    check_visitors,
)
from simclr_ext.distributed.blocks import Blocks
from simclr_ext.distributed.contrastive import Saved
from simclr_ext.distributed.fake import token
from simclr_ext.distributed.labeled import Labeled
from simclr_ext.distributed.meeting import KEEPING, Meeting
from simclr_ext.distributed.ranks import Ranks
from simclr_ext.distributed.sigmoid import Sigmoid


def _agree(
    values: Tensor,
    rows: Sequence[int],
    names: str,
    facts: Sequence[float],
    least: int,
    group: str,
) -> tuple[Tensor, Tensor]:
    """Return the numbers of rows [G, 2] of all ranks; see `agreement.agree`.

    Args:
        values: The first facts, which may be known only when it runs, float64 on the CPU.
        rows: This rank's rows and columns.
        names: Of all facts, with commas between.
        facts: The other facts.
        least: The least number of rows in all.
        group: Its name.
    """
    if len(rows) != 2:
        raise ValueError(f"rows must be this rank's rows and columns, got {list(rows)}")
    check_values(values, names.split(","), facts)
    found = dict(zip(names.split(","), [*values.tolist(), *facts], strict=True))
    return agreement.agree(Ranks.named(group), rows, found, least), token()


def _reduce(
    values: Tensor, operation: str, after: Tensor | None, group: str
) -> tuple[Tensor, Tensor]:
    check_operation(operation)
    check_data(values=values)
    return Ranks.named(group).reduce(values, operation), token()


def _numbers(
    ids: Tensor, sizes: Tensor, after: Tensor | None, group: str
) -> tuple[Tensor, Tensor, Tensor]:
    ranks = Ranks.named(group)
    check_integers("ids", ids)
    check_sizes(ranks, sizes, [len(ids)])
    return *numbers.of_ids(ranks, _column(sizes, 0), ids), token()


def _contrastive_forward(
    x: Tensor,
    y: Tensor | None,
    temperature: Tensor,
    sizes: Tensor,
    normalize: bool,
    eps: float,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: str,
    backend: str,
    exchange: str,
    after: Tensor | None,
    group: str,
) -> tuple[Tensor, ...]:
    """Return loss and lse of this rank's rows, its stored rows and norms, and those that it keeps.

    Args:
        x: [R, D].
        y: [C, D]; None: the rows x of all ranks are the columns, too.
        temperature: T, 0-d float64 on the CPU.
        sizes: [G, 2] int64 on the CPU: rows and columns of each rank.
        normalize: Whether similarities are cosines.
        eps: Smallest norm.
        shifts: Of the positives among this rank's own rows and columns.
        label: Instead of shifts, [R] int32, for y = None: equal for the positives of all ranks.
        ignored: [R + C] or [R] int32: pairs of equal numbers are left out.
        denominator: Which pairs are terms of the lse.
        backend: "fused" or "tiled".
        exchange: As in `meeting.py`; with labels all columns are gathered twice.
        after: A token.
        group: Its name.
    """
    check_rows(x, y)
    check_data(x=x, y=y)
    check_names(backend, exchange)
    columns = None if y is None else len(y)
    check_pairing(len(x), columns, shifts, label, ignored, denominator, x.device)
    check_temperature(temperature)
    check_eps(eps)
    ranks = Ranks.named(group)
    check_sizes(ranks, sizes, [len(x), len(x if y is None else y)])
    with torch.no_grad():
        if label is not None:
            labeled = Labeled(ranks, _column(sizes, 0), temperature, eps, denominator, backend)
            return *labeled.forward(x, normalize, label, ignored), token()
        blocks = Blocks(temperature, normalize, eps, shifts, denominator, backend)
        meeting = _meeting(ranks, exchange, sizes, same=y is None)
        return *contrastive.forward(meeting, blocks, x, y, ignored), token()


def _contrastive_backward(
    grad_loss: Tensor,
    grad_lse: Tensor | None,
    loss: Tensor,
    lse: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    visitors: Tensor,
    visitors_inv_norm: Tensor,
    dim: int,
    rows: int,
    temperature: Tensor,
    sizes: Tensor,
    eps: float,
    shifts: Sequence[int],
    label: Tensor | None,
    ignored: Tensor | None,
    denominator: str,
    needs_temperature: bool,
    backend: str,
    exchange: str,
    after: Tensor | None,
    group: str,
) -> tuple[Tensor, ...]:
    """Return the gradient of [x; y] or x, and this rank's part of that of the temperature.

    The gradient is that of the sum over the ranks of what grad_loss and grad_lse weigh; the
    temperature's parts of all ranks add up to its gradient. The other arguments are as above.
    """
    check_contrastive_saved(grad_loss, loss, lse, z, inv_norm, dim, rows)
    if grad_lse is not None:
        check_saved_row("grad_lse", grad_lse, z)
    check_data(grad_loss=grad_loss, grad_lse=grad_lse, loss=loss, lse=lse, z=z, inv_norm=inv_norm)
    check_names(backend, exchange)
    check_visitors(exchange == KEEPING and label is None, visitors, visitors_inv_norm, z)
    columns = len(z) - rows or None
    check_pairing(rows, columns, shifts, label, ignored, denominator, z.device)
    check_temperature(temperature)
    check_eps(eps)
    ranks, grads = Ranks.named(group), (grad_loss, grad_lse)
    check_sizes(ranks, sizes, [rows, columns or rows])
    saved = Saved(loss, lse, z, inv_norm, visitors, visitors_inv_norm)
    with torch.no_grad():
        if label is not None:
            labeled = Labeled(ranks, _column(sizes, 0), temperature, eps, denominator, backend)
            found = labeled.backward(saved, grads, dim, label, ignored, needs_temperature)
            return *found, token()
        blocks = Blocks(temperature, len(inv_norm) > 0, eps, shifts, denominator, backend)
        meeting = _meeting(ranks, exchange, sizes, same=rows == len(z))
        found = contrastive.backward(
            meeting, blocks, saved, grads, rows, dim, ignored, needs_temperature
        )
        return *found, token()


def _sigmoid_forward(
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
    sizes: Tensor,
    normalize: bool,
    eps: float,
    shifts: Sequence[int],
    backend: str,
    exchange: str,
    after: Tensor | None,
    group: str,
) -> tuple[Tensor, ...]:
    """Return the losses of x over the columns of all ranks, and what the backward pass needs."""
    check_rows(x, y)
    check_data(x=x, y=y)
    check_names(backend, exchange)
    check_operands(len(x), len(y), shifts, None, None, "all", (), x.device)
    scalar_values(scale, bias)
    check_eps(eps)
    ranks = Ranks.named(group)
    check_sizes(ranks, sizes, [len(x), len(y)])
    meeting = _meeting(ranks, exchange, sizes, same=False)
    with torch.no_grad():
        sigmoid = Sigmoid(meeting, scale, bias, eps, shifts, backend)
        return *sigmoid.forward(x, y, normalize), token()


def _sigmoid_backward(
    grad_loss: Tensor,
    z: Tensor,
    inv_norm: Tensor,
    visitors: Tensor,
    visitors_inv_norm: Tensor,
    dim: int,
    scale: Tensor,
    bias: Tensor,
    sizes: Tensor,
    eps: float,
    shifts: Sequence[int],
    needs_scale: bool,
    backend: str,
    exchange: str,
    after: Tensor | None,
    group: str,
) -> tuple[Tensor, ...]:
    """Return the gradient of [x; y], and this rank's part of that of the scale."""
    check_sigmoid_saved(grad_loss, z, inv_norm, dim)
    check_data(grad_loss=grad_loss, z=z, inv_norm=inv_norm)
    check_names(backend, exchange)
    check_visitors(exchange == KEEPING, visitors, visitors_inv_norm, z)
    rows, columns = len(grad_loss), len(z) - len(grad_loss)
    check_operands(rows, columns, shifts, None, None, "all", (), z.device)
    scalar_values(scale, bias)
    check_eps(eps)
    ranks = Ranks.named(group)
    check_sizes(ranks, sizes, [rows, columns])
    meeting = _meeting(ranks, exchange, sizes, same=False)
    with torch.no_grad():
        sigmoid = Sigmoid(meeting, scale, bias, eps, shifts, backend)
        visited = (visitors, visitors_inv_norm)
        found = sigmoid.backward(grad_loss, (z, inv_norm), visited, dim, needs_scale)
        return *found, token()


def _meeting(ranks: Ranks, exchange: str, sizes: Tensor, same: bool) -> Meeting:
    rows = _column(sizes, 0)
    return Meeting(ranks, exchange, rows, rows if same else _column(sizes, 1), same)


def _column(sizes: Tensor, index: int) -> list[int]:
    column: list[int] = sizes[:, index].tolist()
    return column


def _define(name: str, schema: str, function: Callable[..., object], stand_in: object) -> None:
    operator = f"simclr_ext::{name}"
    torch.library.define(operator, schema, tags=OPERATOR_TAGS)
    torch.library.impl(operator, "default", function)
    torch.library.register_fake(operator, stand_in)  # type: ignore[arg-type]


_define(
    "ranks_agree",
    "(Tensor values, SymInt[] rows, str names, float[] facts, int least, str group)"
    " -> (Tensor sizes, Tensor token)",
    _agree,
    fake.agree,
)
_define(
    "ranks_reduce",
    "(Tensor values, str operation, Tensor? after, str group) -> (Tensor values, Tensor token)",
    _reduce,
    fake.reduce,
)
_define(
    "ranks_numbers",
    "(Tensor ids, Tensor sizes, Tensor? after, str group)"
    " -> (Tensor numbers, Tensor counts, Tensor token)",
    _numbers,
    fake.numbers,
)
_define(
    "ranks_contrastive_forward",
    "(Tensor x, Tensor? y, Tensor temperature, Tensor sizes, bool normalize, float eps,"
    " SymInt[] shifts, Tensor? label, Tensor? ignored, str denominator, str backend,"
    " str exchange, Tensor? after, str group)"
    " -> (Tensor loss, Tensor lse, Tensor z, Tensor inv_norm, Tensor visitors,"
    " Tensor visitors_inv_norm, Tensor token)",
    _contrastive_forward,
    fake.contrastive_forward,
)
_define(
    "ranks_contrastive_backward",
    "(Tensor grad_loss, Tensor? grad_lse, Tensor loss, Tensor lse, Tensor z, Tensor inv_norm,"
    " Tensor visitors, Tensor visitors_inv_norm, SymInt dim, SymInt rows, Tensor temperature,"
    " Tensor sizes, float eps, SymInt[] shifts, Tensor? label, Tensor? ignored, str denominator,"
    " bool needs_temperature, str backend, str exchange, Tensor? after, str group)"
    " -> (Tensor grad_z, Tensor grad_temperature, Tensor token)",
    _contrastive_backward,
    fake.contrastive_backward,
)
_define(
    "ranks_sigmoid_forward",
    "(Tensor x, Tensor y, Tensor scale, Tensor bias, Tensor sizes, bool normalize, float eps,"
    " SymInt[] shifts, str backend, str exchange, Tensor? after, str group)"
    " -> (Tensor loss, Tensor bias_grad, Tensor z, Tensor inv_norm, Tensor visitors,"
    " Tensor visitors_inv_norm, Tensor token)",
    _sigmoid_forward,
    fake.sigmoid_forward,
)
_define(
    "ranks_sigmoid_backward",
    "(Tensor grad_loss, Tensor z, Tensor inv_norm, Tensor visitors, Tensor visitors_inv_norm,"
    " SymInt dim, Tensor scale, Tensor bias, Tensor sizes, float eps, SymInt[] shifts,"
    " bool needs_scale, str backend, str exchange, Tensor? after, str group)"
    " -> (Tensor grad_z, Tensor grad_scale, Tensor token)",
    _sigmoid_backward,
    fake.sigmoid_backward,
)
