"""The contrastive operators on the blocks of S: a rank's own one, or one between two ranks.

The log-sum-exp of a row is that of all blocks together: a forward pass returns each block's part,
and a backward pass is given the whole, from which it computes the weights of its block. Positives
are in the own block alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simclr_ext.backends.autograd import call_operator, operator_name
from simclr_ext.backends.reference import compute_dtype

Pairing = tuple[Any, ...]  # the operators' arguments from shifts to owned


@dataclass(frozen=True)
class Blocks:
    """Computes blocks.

    Args:
        temperature: T, 0-d float64 on the CPU.
        normalize: Whether similarities are cosines; for the forward pass.
        eps: Smallest norm.
        shifts: Of the positives in the own block.
        denominator: Which pairs of the own block are terms of the lse.
        backend: "fused" or "tiled".
    """

    temperature: Tensor
    normalize: bool
    eps: float
    shifts: Sequence[int]
    denominator: str
    backend: str

    def have_positives(self, rows: int, columns: int | None, device: torch.device) -> Tensor:
        """Return which of the R + C or R rows of z have one; the loss of the others is 0."""
        sides = [(rows, rows, 1)] if columns is None else [(rows, columns, 1), (columns, rows, -1)]
        found = []
        for count, others, sign in sides:
            i = torch.arange(count, device=device)
            has = torch.zeros_like(i, dtype=torch.bool)
            for shift in self.shifts:
                positive = i + sign * shift
                has |= (positive >= 0) & (positive < others)
            found.append(has)
        return torch.cat(found)

    def own(
        self, x: Tensor, y: Tensor | None, ignored: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return loss, the lse that it is relative to, lse, and the stored rows and norms."""
        if self.denominator == "negatives" and self.shifts and y is None and len(x) == 2:
            # No negatives: the loss is relative to the positive itself, the only pair there is.
            loss, lse, z, inv_norm = self._forward(x, y, ignored, self.shifts, "all")
            return loss, lse, torch.full_like(lse, -torch.inf), z, inv_norm
        loss, lse, z, inv_norm = self._forward(x, y, ignored, self.shifts, self.denominator)
        return loss, lse.clone(), lse, z, inv_norm

    def between(
        self, x: Tensor, y: Tensor, ignored: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the lse of x over y, then of y over x, and the stored rows and norms of both."""
        _, *results = self._forward(x, y, ignored, (), "all")
        return results[0], results[1], results[2]

    def _forward(
        self,
        x: Tensor,
        y: Tensor | None,
        ignored: Tensor | None,
        shifts: Sequence[int],
        denominator: str,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        operator = operator_name("contrastive", "forward", self.backend)
        options = (self.temperature, self.normalize, self.eps)
        results: tuple[Tensor, Tensor, Tensor, Tensor] = call_operator(
            operator, x, y, *options, list(shifts), None, ignored, denominator, []
        )
        return results

    def own_gradient(
        self,
        grads: tuple[Tensor, Tensor | None],
        losses: tuple[Tensor, Tensor],
        stored: tuple[Tensor, Tensor],
        rows: int,
        ignored: Tensor | None,
        sizes: tuple[int, bool],
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the rows of z by the own block, and of the temperature.

        Args:
            grads: Of the losses and of the lse.
            losses: loss and lse of the whole batch.
            stored: z and inv_norm.
            rows: How many of them are rows x.
            ignored: Numbers of the rows of z, or None.
            sizes: D, and whether the temperature needs a gradient.
        """
        pairing: Pairing = (list(self.shifts), None, ignored, self.denominator, [])
        return self._backward(*grads, losses, stored, rows, pairing, sizes)

    def gradient_between(
        self,
        grad_lse: Tensor,
        lse: Tensor,
        stored: tuple[Tensor, Tensor],
        rows: int,
        ignored: Tensor | None,
        sizes: tuple[int, bool],
    ) -> tuple[Tensor, Tensor]:
        """Return the same for the rows of two ranks by their block."""
        zeros = grad_lse.new_zeros(len(lse), dtype=compute_dtype(stored[0].dtype))
        pairing: Pairing = ([], None, ignored, "all", [])
        return self._backward(zeros, grad_lse, (zeros, lse), stored, rows, pairing, sizes)

    def _backward(
        self,
        grad_loss: Tensor,
        grad_lse: Tensor | None,
        losses: tuple[Tensor, Tensor],
        stored: tuple[Tensor, Tensor],
        rows: int,
        pairing: Pairing,
        sizes: tuple[int, bool],
    ) -> tuple[Tensor, Tensor]:
        operator = operator_name("contrastive", "backward", self.backend)
        dim, needs_temperature = sizes
        saved = (*losses, *stored, dim, rows, self.temperature, self.eps)
        needs = [True, True, needs_temperature]
        grad_z, grad_temperature = call_operator(
            operator, grad_loss, grad_lse, *saved, *pairing, needs
        )
        return grad_z.to(compute_dtype(grad_z.dtype)), grad_temperature
