"""Losses and gradients of a rank's rows over the columns of all ranks, each pair compared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from simclr_ext.distributed.blocks import Blocks
from simclr_ext.distributed.meeting import Home, Kept, Meeting


class Saved(NamedTuple):
    """What the forward pass leaves for the backward pass, of this rank alone.

    Args:
        loss: [R + C] over the columns of all ranks, or [R] if the columns are the rows.
        lse: Likewise.
        z: The stored rows of [x; y], or of x.
        inv_norm: Of z, or [0] if they are not normalized.
        visitors: The stored rows of the columns that this rank has compared with its own; [0, ...]
            if they come again.
        visitors_inv_norm: Likewise.
    """

    loss: Tensor
    lse: Tensor
    z: Tensor
    inv_norm: Tensor
    visitors: Tensor
    visitors_inv_norm: Tensor


def forward(
    meeting: Meeting, blocks: Blocks, x: Tensor, y: Tensor | None, ignored: Tensor | None
) -> Saved:
    """Compute the own block, then the pairs, and join what all ranks have found.

    Args:
        meeting: How the ranks meet.
        blocks: The operators.
        x: [R, D].
        y: [C, D], or None: the rows x.
        ignored: Numbers of [x; y] or x that leave pairs out, as the operators take them.
    """
    numbers = [] if ignored is None else [ignored]
    own = _of_rows(len(x), [x, *numbers])
    visiting = own if y is None else [y, *_of_columns(len(x), numbers)]
    visits = meeting.visits(own, visiting)  # on their way while the own block is computed
    own_loss, base, lse, z, inv_norm = blocks.own(x, y, ignored)
    columns = lse if y is None else lse[len(x) :]

    def join(found: Tensor, begin: int) -> None:
        _add_exp(columns[begin : begin + len(found)], found)

    home, kept = Home(meeting, join), Kept(z, inv_norm, meeting.kept_rows)
    for pair, (both, *both_numbers) in visits:
        first = pair.first
        left_out = both_numbers[0][first:] if both_numbers else None
        found, both_z, both_norms = blocks.between(both[first : len(x)], both[len(x) :], left_out)
        size = len(x) - first
        _add_exp(lse[first : len(x)], found[:size])
        home.send(pair, found[size:])
        if meeting.keeps:
            kept.add(both_z[size:], both_norms[size:])
        del both_z, both_norms  # before the next columns arrive
    home.finish()
    # Both are -inf where all terms are left out.
    grown = (lse != base) & blocks.have_positives(len(x), None if y is None else len(y), x.device)
    more = torch.where(grown, lse - base, 0)
    loss = own_loss + more.to(own_loss.dtype)
    return Saved(loss, lse, z, inv_norm, kept.z, kept.inv_norm)


def backward(
    meeting: Meeting,
    blocks: Blocks,
    saved: Saved,
    grads: tuple[Tensor, Tensor | None],
    rows: int,
    dim: int,
    ignored: Tensor | None,
    needs_temperature: bool,
) -> tuple[Tensor, Tensor]:
    """Compare again; return the gradient of [x; y] or x, and this rank's part of the temperature's.

    Args:
        meeting: As in the forward pass, like blocks and ignored.
        blocks: The operators.
        saved: Its results.
        grads: Of loss and lse.
        rows: R.
        dim: D.
        ignored: As in the forward pass.
        needs_temperature: Whether the temperature needs a gradient.
    """
    loss, lse, z, inv_norm, *visitors = saved
    # A row's loss is relative to its lse: both gradients weigh the pairs of other blocks alike.
    counted = blocks.have_positives(rows, len(z) - rows or None, z.device)
    grad_lse = torch.where(counted, grads[0].to(lse.dtype), 0)
    if grads[1] is not None:
        grad_lse += grads[1]
    numbers = torch.stack([lse, grad_lse], 1)
    stored = [z, *([inv_norm] if len(inv_norm) else [])]
    told = [numbers, *([] if ignored is None else [ignored])]
    sent = told if meeting.keeps else [*stored, *told]
    visiting = _of_rows(rows, sent) if meeting.same else _of_columns(rows, sent)
    kept = visitors[: len(stored)] if meeting.keeps else []
    visits = meeting.visits(_of_rows(rows, [*stored, *told]), visiting, kept)
    sizes = (dim, needs_temperature)

    def join(found: Tensor, begin: int) -> None:
        columns[begin : begin + len(found)] += found

    home = Home(meeting, join)
    parts: list[Tensor] = []

    def meet(add: Callable[[int, Tensor], None]) -> None:
        for pair, (both, *rest) in visits:
            first = pair.first
            norms = rest.pop(0)[first:] if len(inv_norm) else inv_norm
            both_lse, both_grad = rest.pop(0)[first:].unbind(1)
            found, part = blocks.gradient_between(
                both_grad.contiguous(),
                both_lse.contiguous(),
                (both[first:], norms),
                rows - first,
                rest[0][first:] if rest else None,
                sizes,
            )
            home.send(pair, found[rows - first :])
            add(first, found[: rows - first])
            parts.append(part)
            del found  # before the next columns arrive

    def add(first: int, found: Tensor) -> None:
        grad_z[first:rows] += found

    early: list[tuple[int, Tensor]] = []
    if meeting.keeps:  # what the pairs find travels home while the own block is computed
        meet(lambda first, found: early.append((first, found)))
        home.start()
    grad_z, total = blocks.own_gradient(grads, (loss, lse), (z, inv_norm), rows, ignored, sizes)
    columns = grad_z if meeting.same else grad_z[rows:]
    for first, found in early:
        add(first, found)
    if not meeting.keeps:
        meet(add)
    home.finish()
    return grad_z, sum(parts, total)


def _add_exp(lse: Tensor, found: Tensor) -> None:
    torch.logaddexp(lse, found, out=lse)


def _of_rows(rows: int, tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor[:rows] for tensor in tensors]


def _of_columns(rows: int, tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor[rows:] for tensor in tensors]
