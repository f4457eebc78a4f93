"""Every rank holds all rows: one all-gather, O(M D) memory for M rows in all."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed._functional_collectives as collectives
from torch import Tensor

from simclr_ext.distributed.blocks import Blocks, Rows
from simclr_ext.distributed.pairs import pairs
from simclr_ext.distributed.ranks import Ranks, log_sum_exp_of_ranks, mean_gradient, split, wait


class Gather(torch.autograd.Function):
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
        """Compute own block and pairs, then add up what the ranks have found about each row."""
        everyone = ranks.gather_rows(z, sizes)
        own_loss, own_lse, stored = blocks.own(z)
        partial = own_lse.new_full((sum(sizes),), -torch.inf)
        of_rank = split(partial, sizes)
        of_rank[ranks.rank].copy_(own_lse)
        kept = [stored]
        for pair in pairs(ranks, sizes):
            x, y = z[pair.own], everyone[pair.other][pair.others]
            x_lse, y_lse, rows = blocks.between(x, y)
            _add(of_rank[ranks.rank][pair.own], x_lse)
            _add(of_rank[pair.other][pair.others], y_lse)
            kept.append(rows)
        lse = log_sum_exp_of_ranks(ranks, partial)
        loss: Tensor = own_loss + (split(lse, sizes)[ranks.rank] - own_lse).to(own_loss.dtype)
        ctx.blocks, ctx.ranks, ctx.sizes = blocks, ranks, sizes
        learned = temperature if isinstance(temperature, Tensor) else None
        flat = [tensor for rows in kept for tensor in (rows.z, rows.inv_norm)]
        ctx.save_for_backward(z, learned, loss, lse, *flat)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of own block and pairs, and send those of others home."""
        blocks, ranks, sizes = ctx.blocks, ctx.ranks, ctx.sizes
        z, temperature, loss, lse, *flat = ctx.saved_tensors
        kept = [Rows(*flat[k : k + 2]) for k in range(0, len(flat), 2)]
        needs_temperature = ctx.needs_input_grad[1]
        grads, lses = ranks.gather_rows(grad, sizes), split(lse, sizes)
        own = ranks.rank
        own_grad, total = blocks.own_gradient(grad, loss, lses[own], kept[0], needs_temperature)
        grad_z = own_grad.new_zeros(sum(sizes), blocks.dim)
        of_rank = split(grad_z, sizes)
        of_rank[own].copy_(own_grad)
        for pair, rows in zip(pairs(ranks, sizes), kept[1:], strict=True):
            x, y = (own, pair.own), (pair.other, pair.others)
            both_grads = torch.cat([grads[rank][part] for rank, part in (x, y)])
            both_lses = torch.cat([lses[rank][part] for rank, part in (x, y)])
            first = pair.own.stop - pair.own.start
            grad_x, grad_y, part = blocks.gradient_between(
                both_grads, both_lses, rows, first, needs_temperature
            )
            of_rank[own][pair.own] += grad_x
            of_rank[pair.other][pair.others] += grad_y
            total = total + part
        return (
            _sum_at_home(ranks, grad_z, sizes).to(z.dtype),
            mean_gradient(ranks, total, temperature) if needs_temperature else None,
            None,
            None,
            None,
        )


def _add(lse: Tensor, values: Tensor) -> None:
    torch.logaddexp(lse, values, out=lse)


def _sum_at_home(ranks: Ranks, rows: Tensor, sizes: list[int]) -> Tensor:
    """Return the sum over all ranks of this rank's part of rows, in the order of the ranks."""
    own = sizes[ranks.rank]
    received = wait(collectives.all_to_all_single(rows, [own] * ranks.size, sizes, ranks.group))
    return received.view(ranks.size, own, -1).sum(0)
