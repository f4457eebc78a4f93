"""Losses with labels over all ranks: a rank compares its own rows with all, which it gathers.

A pair of two ranks' rows is compared twice in the job: 1/G of the whole square for each rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simclr_ext.backends.autograd import call_operator, operator_name
from simclr_ext.backends.reference import compute_dtype
from simclr_ext.distributed.contrastive import Saved
from simclr_ext.distributed.meeting import Kept
from simclr_ext.distributed.ranks import Ranks


@dataclass(frozen=True)
class Labeled:
    """The contrastive operators on rows of all ranks, of which this rank's are owned.

    Args:
        ranks: The processes.
        sizes: The number of rows of each rank.
        temperature: T, 0-d float64 on the CPU.
        eps: Smallest norm.
        denominator: Which pairs are terms of the lse.
        backend: "fused" or "tiled".
    """

    ranks: Ranks
    sizes: Sequence[int]
    temperature: Tensor
    eps: float
    denominator: str
    backend: str

    def forward(self, x: Tensor, normalize: bool, label: Tensor, ignored: Tensor | None) -> Saved:
        """Return losses and stored rows of this rank.

        Args:
            x: [R, D].
            normalize: Whether similarities are cosines.
            label: [R] int32; equal for the positives of all ranks.
            ignored: [R] int32 or None.
        """
        everyone = self._gather(x)
        loss, lse, z, inv_norm = call_operator(
            operator_name("contrastive", "forward", self.backend),
            everyone,
            None,
            self.temperature,
            normalize,
            self.eps,
            *self._pairing(label, ignored),
        )
        begin, end = self._owned
        norms = inv_norm[begin:end] if normalize else inv_norm
        kept = Kept(z, norms, rows=0)  # all columns come again
        own = z[begin:end].clone(), norms.clone()
        return Saved(loss, lse, *own, kept.z, kept.inv_norm)

    def backward(
        self,
        saved: Saved,
        grads: tuple[Tensor, Tensor | None],
        dim: int,
        label: Tensor,
        ignored: Tensor | None,
        needs_temperature: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the own rows, and this rank's part of the temperature's."""
        grad_lse = torch.zeros_like(saved.lse) if grads[1] is None else grads[1]
        numbers = torch.stack([grads[0].double(), grad_lse, saved.loss.double(), saved.lse], 1)
        grad_loss, grad_lse, loss, lse = self._gather(numbers).T.contiguous()
        z = self._gather(saved.z)
        inv_norm = self._gather(saved.inv_norm) if len(saved.inv_norm) else saved.inv_norm
        dtype = saved.loss.dtype
        grad_z, grad_temperature = call_operator(
            operator_name("contrastive", "backward", self.backend),
            grad_loss.to(dtype),
            grad_lse,
            loss.to(dtype),
            lse,
            z,
            inv_norm,
            dim,
            len(z),
            self.temperature,
            self.eps,
            *self._pairing(label, ignored),
            [True, False, needs_temperature],
        )
        return grad_z.to(compute_dtype(grad_z.dtype)), grad_temperature

    @property
    def _owned(self) -> list[int]:
        begin = sum(self.sizes[: self.ranks.rank])
        return [begin, begin + self.sizes[self.ranks.rank]]

    def _pairing(self, label: Tensor, ignored: Tensor | None) -> tuple[object, ...]:
        of_all = None if ignored is None else self._gather(ignored)
        return [], self._gather(label), of_all, self.denominator, self._owned

    def _gather(self, rows: Tensor) -> Tensor:
        return self.ranks.join_rows(rows, self.sizes)
