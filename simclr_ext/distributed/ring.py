"""Blocks of rows travel from rank to rank: never more than two ranks' rows are resident.

O(M D / G) memory for M rows in all, in G/2 steps: sums of a rank's own rows stay, sums and
gradients of the visitors' rows are sent home. The next block is on its way while the current one
is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from simclr_ext.backends.reference import compute_dtype
from simclr_ext.distributed.blocks import Blocks, Rows
from simclr_ext.distributed.pairs import Pair, pairs
from simclr_ext.distributed.ranks import Ranks, mean_gradient


class Ring(torch.autograd.Function):
    """The losses of this rank's rows [2N] over all ranks' rows."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        temperature: float | Tensor,
        blocks: Blocks,
        ranks: Ranks,
        sizes: list[int],
    ) -> Tensor:
        """Compare own rows with each visitor's; send home what was found about the visitors."""
        own_loss, own_lse, stored = blocks.own(z)
        lse = own_lse.clone()
        for pair, (visitors,) in _visits(ranks, sizes, z):
            x_lse, y_lse, _ = blocks.between(z[pair.own], visitors[pair.others])
            lse[pair.own] = torch.logaddexp(lse[pair.own], x_lse)
            found = lse.new_full((len(visitors),), -torch.inf)
            found[pair.others] = y_lse
            lse = torch.logaddexp(lse, ranks.send_home(found, pair.distance, len(z)))
        loss: Tensor = own_loss + (lse - own_lse).to(own_loss.dtype)
        ctx.blocks, ctx.ranks, ctx.sizes = blocks, ranks, sizes
        learned = temperature if isinstance(temperature, Tensor) else None
        ctx.save_for_backward(z, learned, loss, lse, stored.z, stored.inv_norm)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compare again, and send home the gradients of the visitors."""
        blocks, ranks, sizes = ctx.blocks, ctx.ranks, ctx.sizes
        z, temperature, loss, lse, *flat = ctx.saved_tensors
        stored = Rows(*flat)
        needs_temperature = ctx.needs_input_grad[1]
        grad_z, total = blocks.own_gradient(grad, loss, lse, stored, needs_temperature)
        numbers = torch.stack([lse, grad.to(lse.dtype)], 1)
        inv_norm = stored.inv_norm if blocks.normalize else stored.z.new_empty(len(z), 0)
        for pair, (rows, visitor_norms, others) in _visits(
            ranks, sizes, stored.z, inv_norm, numbers
        ):
            visitors = Rows(rows, visitor_norms if blocks.normalize else stored.inv_norm)
            grad_x, grad_y, part = _gradients(
                blocks, pair, stored, visitors, numbers, others, needs_temperature
            )
            grad_z[pair.own] += grad_x
            found = grad_z.new_zeros(len(rows), blocks.dim)
            found[pair.others] = grad_y
            grad_z = grad_z + ranks.send_home(found, pair.distance, len(z))
            total = total + part
        return (
            grad_z.to(z.dtype),
            mean_gradient(ranks, total, temperature) if needs_temperature else None,
            None,
            None,
            None,
        )


def _gradients(
    blocks: Blocks,
    pair: Pair,
    own: Rows,
    visitors: Rows,
    numbers: Tensor,
    others: Tensor,
    needs_temperature: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a pair's own rows, of the visitors' and of the temperature."""
    lse, grad = torch.cat([numbers[pair.own], others[pair.others]]).unbind(1)
    rows = own.part(pair.own).joined(visitors.part(pair.others))
    first = pair.own.stop - pair.own.start
    grad = grad.to(compute_dtype(rows.z.dtype))
    return blocks.gradient_between(grad, lse.contiguous(), rows, first, needs_temperature)


def _visits(
    ranks: Ranks, sizes: list[int], *own: Tensor
) -> Iterator[tuple[Pair, tuple[Tensor, ...]]]:
    """Yield each pair with the tensors of the visiting rank; [rows, ...] each, as `own`."""
    visitors = own
    here = ranks.rank  # whose tensors these are
    coming = list(pairs(ranks, sizes))
    for step, pair in enumerate(coming):
        if step == 0:
            visitors = _from_next(ranks, visitors, here, sizes)
            here = (here + 1) % ranks.size
        on_their_way = None
        if step + 1 < len(coming):
            on_their_way = _from_next(ranks, visitors, here, sizes)
        yield pair, visitors
        if on_their_way is not None:
            visitors, here = on_their_way, (here + 1) % ranks.size


def _from_next(
    ranks: Ranks, tensors: tuple[Tensor, ...], here: int, sizes: list[int]
) -> tuple[Tensor, ...]:
    """Pass tensors of rank ``here`` to the rank before; return those of the rank after ``here``."""
    size = sizes[(here + 1) % ranks.size]
    return tuple(
        ranks.pass_back(tensor.view(len(tensor), -1), size).view(size, *tensor.shape[1:])
        for tensor in tensors
    )
