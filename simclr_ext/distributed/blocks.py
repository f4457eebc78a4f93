"""The operators on the blocks of the matrix of similarities: one rank's own, or two ranks' rows.

The log-sum-exp of a row is that of all blocks together: a forward pass returns each block's part,
and a backward pass is given the whole, from which it computes the weights of its block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simclr_ext.backends.autograd import call_operator, operator_name
from simclr_ext.backends.reference import compute_dtype


@dataclass(frozen=True)
class Rows:
    """Rows as the forward operator stored them.

    Args:
        z: [rows, D or wider].
        inv_norm: [rows], or [0] if they are not normalized.
    """

    z: Tensor
    inv_norm: Tensor

    def part(self, rows: slice) -> Rows:
        """Return some of the rows."""
        return Rows(self.z[rows], self.inv_norm[rows])

    def joined(self, other: Rows) -> Rows:
        """Return both ranks' rows."""
        return Rows(torch.cat([self.z, other.z]), torch.cat([self.inv_norm, other.inv_norm]))


@dataclass(frozen=True)
class Blocks:
    """Computes blocks.

    Args:
        temperature: T, 0-d float64 on the CPU.
        normalize: Whether similarities are cosines.
        eps: Smallest norm.
        backend: "fused" or "tiled".
        dim: D.
    """

    temperature: Tensor
    normalize: bool
    eps: float
    backend: str
    dim: int

    def own(self, z: Tensor) -> tuple[Tensor, Tensor, Rows]:
        """Return loss and lse of the 2N rows of one rank among themselves, and the stored rows."""
        return self._forward(z, None, [len(z) // 2, -(len(z) // 2)])

    def between(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Rows]:
        """Return the lse of x over y and of y over x, and the stored rows of both."""
        _, lse, rows = self._forward(x, y, [])
        return lse[: len(x)], lse[len(x) :], rows

    def own_gradient(
        self, grad: Tensor, loss: Tensor, lse: Tensor, rows: Rows, needs_temperature: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of one rank's rows by their block, and of the temperature.

        Args:
            grad: Gradients of the losses, [rows].
            loss: Of the whole batch, like lse.
            lse: [rows].
            rows: Result of :meth:`own`.
            needs_temperature: Whether the temperature needs one.
        """
        half = len(loss) // 2
        needs = [True, False, needs_temperature]
        return self._backward(grad, None, loss, lse, rows, len(loss), [half, -half], needs)

    def gradient_between(
        self, grad: Tensor, lse: Tensor, rows: Rows, first: int, needs_temperature: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of two ranks' rows by their block, and of the temperature.

        Args:
            grad: Gradients of the losses of all these rows.
            lse: Of the whole batch.
            rows: Both ranks' rows.
            first: How many of them are the first rank's.
            needs_temperature: Whether the temperature needs one.
        """
        zeros = grad.new_zeros(len(grad))
        needs = [True, True, needs_temperature]
        grad_z, grad_temperature = self._backward(
            zeros, grad.to(lse.dtype), zeros, lse, rows, first, [], needs
        )
        return grad_z[:first], grad_z[first:], grad_temperature

    def _forward(
        self, x: Tensor, y: Tensor | None, shifts: list[int]
    ) -> tuple[Tensor, Tensor, Rows]:
        operator = operator_name("contrastive", "forward", self.backend)
        options = (self.temperature, self.normalize, self.eps)
        loss, lse, z, inv_norm = call_operator(operator, x, y, *options, *_pairing(shifts))
        return loss, lse, Rows(z, inv_norm)

    def _backward(
        self,
        grad_loss: Tensor,
        grad_lse: Tensor | None,
        loss: Tensor,
        lse: Tensor,
        rows: Rows,
        first: int,
        shifts: list[int],
        needs: list[bool],
    ) -> tuple[Tensor, Tensor]:
        operator = operator_name("contrastive", "backward", self.backend)
        saved = (loss, lse, rows.z, rows.inv_norm, self.dim, first)
        options = (self.temperature, self.eps, *_pairing(shifts), needs)
        grad_z, grad_temperature = call_operator(operator, grad_loss, grad_lse, *saved, *options)
        return grad_z.to(compute_dtype(grad_z.dtype)), grad_temperature


def _pairing(shifts: list[int]) -> tuple[Any, ...]:
    """Return the operators' arguments from shifts to owned."""
    return shifts, None, None, "all", []
