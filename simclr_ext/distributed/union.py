"""The union of the ranks' batches, as the losses see it: differentiable functions over the ranks.

Gradients are those of the sum over the ranks of what the losses return. What is of one row (a view,
its weight, its own temperature) has them at its rank. A scalar that all ranks share passes through
:meth:`Union.shared`, and has the mean of the ranks' gradients on each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simclr_ext._checks.scalars import operator_scalar
from simclr_ext.backends.autograd import call_operator, gradients_once
from simclr_ext.backends.reference import Denominator, Reduction
from simclr_ext.distributed import operators  # noqa: F401, defines the operators
from simclr_ext.distributed.meeting import KEEPING
from simclr_ext.distributed.ranks import Group, Ranks


@dataclass
class Union:
    """The ranks that share a batch, once they have agreed on its sizes.

    Args:
        group: Name of the group.
        rank: Of this process.
        size: G.
        exchange: How rows meet, as in `meeting.py`.
        sizes: [G, 2] int64 on the CPU: the numbers of rows and of columns of each rank.
        token: Of the last operator; gradients of zero flow through the tokens, and so the operators
            of the backward pass run in the opposite order.
    """

    group: str
    rank: int
    size: int
    exchange: str
    sizes: Tensor
    token: Tensor

    @classmethod
    def of(
        cls,
        group: Group,
        exchange: str,
        rows: tuple[int, int],
        values: Mapping[str, Tensor],
        facts: Mapping[str, float],
        least: int = 1,
    ) -> Union:
        """Return the union; all ranks must call it.

        Args:
            group: As the losses take it.
            exchange: "gather" or "ring".
            rows: The numbers of this rank's rows and columns.
            values: What must be the same on all ranks: 0-d tensors, float64 on the CPU,
            facts: and numbers.
            least: The least number of rows of all ranks.

        Raises:
            ValueError: If it is not the same, or another rank has an error.
        """
        name, rank, size = identity(group)
        names = ",".join([*values, *facts])
        stacked = torch.stack(list(values.values()))
        sizes, token = call_operator(
            "ranks_agree", stacked, list(rows), names, list(facts.values()), least, name
        )
        if exchange == "gather" and not torch.compiler.is_compiling():
            exchange = KEEPING
        return cls(name, rank, size, exchange, sizes, token)

    @property
    def rows(self) -> Tensor:
        """The number of rows of all ranks, 0-d."""
        return self.sizes[:, 0].sum()

    @property
    def rows_before(self) -> Tensor:
        """The number of rows of the ranks before this one, 0-d."""
        return self.sizes[: self.rank, 0].sum()

    def shared(self, scalar: float | Tensor) -> float | Tensor:
        """Return a scalar that is the same on all ranks, such as a learned temperature."""
        if not isinstance(scalar, Tensor):
            return scalar
        found: Tensor
        found, self.token = _Shared.apply(scalar, self.token, self.group, self.size)
        return found

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the ranks."""
        found: Tensor
        found, self.token = _Sum.apply(values, self.token, self.group)
        return found

    def extremum(self, values: Tensor, operation: str) -> Tensor:
        """Return the "max" or "min" over the ranks, without a gradient."""
        found: Tensor
        before = self.token.detach()
        found, token = call_operator("ranks_reduce", values.detach(), operation, before, self.group)
        self.token = self.token + token
        return found

    def log_sum_exp(self, values: Tensor) -> Tensor:
        """Return the log-sum-exp of the values of all ranks, 0-d."""
        largest = self.extremum(values.detach().max(), "max")
        return self.sum((values - largest).exp().sum()).log() + largest

    def numbers(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return int32 numbers of ids, one for each row, and how often each is on all ranks."""
        before = self.token.detach()
        number, counts, token = call_operator("ranks_numbers", ids, self.sizes, before, self.group)
        self.token = self.token + token
        return number, counts

    def reduce(self, losses: Tensor, reduction: Reduction, weights: Tensor | None) -> Tensor:
        """Return the weighted mean or sum over all ranks, or with "none" this rank's losses."""
        if weights is None:
            weights = torch.ones_like(losses)
        weighted = losses * weights.to(losses.dtype)
        if reduction == "none":
            return weighted
        both = torch.stack([weighted.sum(dtype=torch.float64), weights.sum(dtype=torch.float64)])
        total, weight = self.sum(both).unbind()
        return (total / weight if reduction == "mean" else total).to(losses.dtype)

    def contrastive(
        self,
        x: Tensor,
        y: Tensor | None,
        temperature: float | Tensor,
        *,
        normalize: bool,
        eps: float,
        backend: str,
        shifts: Sequence[int] = (),
        label: Tensor | None = None,
        ignored: Tensor | None = None,
        denominator: Denominator = "all",
    ) -> tuple[Tensor, Tensor]:
        """Return loss and lse of this rank's rows over the columns of all ranks.

        As :func:`simclr_ext.backends.contrastive.contrastive`; shifts are of the own columns,
        numbers those of all ranks.
        """
        value = operator_scalar("temperature", temperature, x.device)
        pairing = (list(shifts), label, ignored, denominator)
        names = (backend, self.exchange, self.group)
        args = (value, self.sizes, normalize, eps, *pairing, *names)
        loss, lse, *_, self.token = _Contrastive.apply(x, y, temperature, self.token, *args)
        return loss, lse

    def sigmoid(
        self,
        x: Tensor,
        y: Tensor,
        scale: float | Tensor,
        bias: float | Tensor,
        *,
        normalize: bool,
        eps: float,
        backend: str,
        shifts: Sequence[int] = (0,),
    ) -> Tensor:
        """Return the sigmoid losses of this rank's rows over the columns of all ranks."""
        values = (
            operator_scalar("scale", scale, x.device),
            operator_scalar("bias", bias, x.device),
        )
        names = (backend, self.exchange, self.group)
        loss: Tensor
        args = (*values, self.sizes, normalize, eps, list(shifts), *names)
        loss, *_, self.token = _Sigmoid.apply(x, y, scale, bias, self.token, *args)
        return loss


# Dynamo runs it while it traces: the group, and this process's rank in it, do not change.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def identity(group: Group) -> tuple[str, int, int]:
    """Return the name of a group, the rank of this process, and the number of processes.

    Raises:
        TypeError: If it is no group.
        ValueError: If there are no process groups, or this process is not in it.
    """
    ranks = Ranks.of(group)
    return ranks.group.group_name, ranks.rank, ranks.size


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scalar: Tensor, token: Tensor, group: str, size: int
    ) -> tuple[Tensor, Tensor]:
        ctx.group, ctx.size = group, size
        ctx.set_materialize_grads(False)
        return scalar.clone(), token.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, after: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, after, None, None
        total, token = _sum_once(grad, after, ctx.group)
        return total / ctx.size, token, None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, token: Tensor, group: str) -> tuple[Tensor, Tensor]:
        ctx.group = group
        ctx.set_materialize_grads(False)
        results: tuple[Tensor, Tensor] = call_operator("ranks_reduce", values, "sum", token, group)
        return results

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, after: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return None, after, None
        return *_sum_once(grad, after, ctx.group), None


def _sum_once(grad: Tensor, after: Tensor | None, group: str) -> tuple[Tensor, ...]:
    args = ("ranks_reduce", grad, "sum", after, group)
    return gradients_once(call_operator, (grad,), *args)


class _Contrastive(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor,
        y: Tensor | None,
        temperature: float | Tensor,
        token: Tensor,
        value: Tensor,  # of the temperature, as the operators take it
        sizes: Tensor,
        normalize: bool,
        eps: float,
        shifts: list[int],
        label: Tensor | None,
        ignored: Tensor | None,
        denominator: str,
        backend: str,
        exchange: str,
        group: str,
    ) -> tuple[Tensor, ...]:
        pairing = (shifts, label, ignored, denominator, backend, exchange, token, group)
        results: tuple[Tensor, ...] = call_operator(
            "ranks_contrastive_forward", x, y, value, sizes, normalize, eps, *pairing
        )
        return results

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, y, temperature, _, value, sizes, _, ctx.eps, ctx.shifts, label, ignored = inputs[:11]
        ctx.denominator, ctx.backend, ctx.exchange, ctx.group = inputs[11:]
        loss, lse, *stored, _ = output
        ctx.mark_non_differentiable(*stored)
        ctx.set_materialize_grads(False)
        learned = temperature if isinstance(temperature, Tensor) else None
        # x and y are not saved: what the backward pass needs of them is z. Their dtypes are.
        ctx.dtypes = (x.dtype, None if y is None else y.dtype)
        ctx.dim, ctx.rows = x.shape[1], x.shape[0]
        ctx.save_for_backward(loss, lse, value, learned, sizes, label, ignored, *stored)

    @staticmethod
    def backward(
        ctx: Any, grad_loss: Tensor | None, grad_lse: Tensor | None, *rest: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        after = rest[-1]
        if grad_loss is None and grad_lse is None:
            return None, None, None, after, *(None,) * 11
        loss, lse, value, temperature, sizes, label, ignored, *stored = ctx.saved_tensors
        if grad_loss is None:
            grad_loss = torch.zeros_like(loss)
        needs_x, needs_y, needs_temperature = ctx.needs_input_grad[:3]
        pairing = (ctx.shifts, label, ignored, ctx.denominator)
        saved = (loss, lse, *stored, ctx.dim, ctx.rows)
        grad_z, grad_temperature, token = gradients_once(
            call_operator,
            (loss, lse),
            "ranks_contrastive_backward",
            grad_loss,
            grad_lse,
            *saved,
            value,
            sizes,
            ctx.eps,
            *pairing,
            needs_temperature,
            ctx.backend,
            ctx.exchange,
            after,
            ctx.group,
        )
        return (
            grad_z[: ctx.rows].to(ctx.dtypes[0]) if needs_x else None,
            grad_z[ctx.rows :].to(ctx.dtypes[1]) if needs_y else None,
            grad_temperature.to(temperature) if needs_temperature else None,
            token,
            *(None,) * 11,
        )


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor,
        y: Tensor,
        scale: float | Tensor,
        bias: float | Tensor,
        token: Tensor,
        scale_value: Tensor,  # as the operators take it
        bias_value: Tensor,
        sizes: Tensor,
        normalize: bool,
        eps: float,
        shifts: list[int],
        backend: str,
        exchange: str,
        group: str,
    ) -> tuple[Tensor, ...]:
        args = (scale_value, bias_value, sizes, normalize, eps, shifts, backend, exchange)
        results: tuple[Tensor, ...] = call_operator(
            "ranks_sigmoid_forward", x, y, *args, token, group
        )
        return results

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, y, scale, bias, _, scale_value, bias_value, sizes, _, ctx.eps, ctx.shifts = inputs[:11]
        ctx.backend, ctx.exchange, ctx.group = inputs[11:]
        loss, *saved, _ = output
        ctx.mark_non_differentiable(*saved)
        ctx.set_materialize_grads(False)
        learned = (s if isinstance(s, Tensor) else None for s in (scale, bias))
        ctx.dtypes = (x.dtype, y.dtype)
        ctx.dim = x.shape[1]
        ctx.save_for_backward(scale_value, bias_value, *learned, sizes, loss, *saved)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *rest: Tensor | None) -> tuple[Tensor | None, ...]:
        after = rest[-1]
        if grad is None:
            return *(None,) * 4, after, *(None,) * 9
        scale_value, bias_value, scale, bias, sizes, loss, bias_grad, *stored = ctx.saved_tensors
        needs_x, needs_y, needs_scale, needs_bias = ctx.needs_input_grad[:4]
        values = (scale_value, bias_value, sizes, ctx.eps, ctx.shifts, needs_scale)
        names = (ctx.backend, ctx.exchange, after, ctx.group)
        grad_z, grad_scale, token, grad_bias = gradients_once(
            _sigmoid_gradients, (loss,), bias_grad, grad, *stored, ctx.dim, *values, *names
        )
        rows = grad.shape[0]
        return (
            grad_z[:rows].to(ctx.dtypes[0]) if needs_x else None,
            grad_z[rows:].to(ctx.dtypes[1]) if needs_y else None,
            grad_scale.to(scale) if needs_scale else None,
            grad_bias.to(bias) if needs_bias else None,
            token,
            *(None,) * 9,
        )


def _sigmoid_gradients(bias_grad: Tensor, grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Return the results of the operator, and the gradient of the bias."""
    results = call_operator("ranks_sigmoid_backward", grad, *args)
    return *results, grad.to(bias_grad.dtype) @ bias_grad
