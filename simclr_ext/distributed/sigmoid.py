"""The sigmoid loss of a rank's rows over the columns of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from simclr_ext.backends.autograd import call_operator, operator_name
from simclr_ext.backends.reference import compute_dtype
from simclr_ext.distributed.meeting import Home, Kept, Meeting


@dataclass(frozen=True)
class Sigmoid:
    """The sigmoid operators on the blocks of S.

    Args:
        meeting: How the ranks meet.
        scale: t, 0-d float64 on the CPU.
        bias: b, likewise.
        eps: Smallest norm.
        shifts: Of the positives in the own block; in the others all pairs are negatives.
        backend: "fused" or "tiled".
    """

    meeting: Meeting
    scale: Tensor
    bias: Tensor
    eps: float
    shifts: Sequence[int]
    backend: str

    def forward(self, x: Tensor, y: Tensor, normalize: bool) -> tuple[Tensor, ...]:
        """Return the losses [R] and what the backward pass needs.

        That is: their gradients by b [R], stored rows and norms of [x; y], and those that are kept.
        """
        visits = self.meeting.visits([x], [y])
        loss, bias_grad, z, inv_norm = self._forward(x, y, normalize, self.shifts)
        kept, rows = Kept(z, inv_norm, self.meeting.kept_rows), len(x)
        for _, (both,) in visits:
            found, bias_part, both_z, norms = self._forward(x, both[rows:], normalize, ())
            loss, bias_grad = loss + found, bias_grad + bias_part
            if self.meeting.keeps:
                kept.add(both_z[rows:], norms[rows:])
            del both_z, norms  # before the next columns arrive
        return loss, bias_grad, z, inv_norm, kept.z, kept.inv_norm

    def backward(
        self,
        grad: Tensor,
        stored: tuple[Tensor, Tensor],
        visitors: tuple[Tensor, Tensor],
        dim: int,
        needs_scale: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the rows of [x; y], and this rank's part of that of the scale.

        Args:
            grad: Of the losses, [R].
            stored: z and inv_norm, as the forward pass returned them.
            visitors: Those that are kept.
            dim: D.
            needs_scale: Whether the scale needs a gradient.
        """
        rows = len(grad)
        z, inv_norm = stored
        tensors = [z, *([inv_norm] if len(inv_norm) else [])]
        visiting = [] if self.meeting.keeps else [t[rows:] for t in tensors]
        kept = visitors[: len(tensors)] if self.meeting.keeps else ()
        visits = self.meeting.visits([t[:rows] for t in tensors], visiting, kept)
        grad_z, total = self._backward(grad, z, inv_norm, dim, self.shifts, needs_scale)

        def join(found: Tensor, begin: int) -> None:
            grad_z[rows + begin : rows + begin + len(found)] += found

        home = Home(self.meeting, join)
        for pair, (both, *norms) in visits:
            found, part = self._backward(
                grad, both, norms[0] if norms else inv_norm, dim, (), needs_scale
            )
            grad_z[:rows] += found[:rows]
            home.send(pair, found[rows:])
            total = total + part
        home.finish()
        return grad_z, total

    def _forward(
        self, x: Tensor, y: Tensor, normalize: bool, shifts: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        results: tuple[Tensor, Tensor, Tensor, Tensor] = call_operator(
            operator_name("sigmoid", "forward", self.backend),
            x,
            y,
            self.scale,
            self.bias,
            normalize,
            self.eps,
            list(shifts),
        )
        return results

    def _backward(
        self,
        grad: Tensor,
        z: Tensor,
        inv_norm: Tensor,
        dim: int,
        shifts: Sequence[int],
        needs_scale: bool,
    ) -> tuple[Tensor, Tensor]:
        grad_z, grad_scale = call_operator(
            operator_name("sigmoid", "backward", self.backend),
            grad,
            z,
            inv_norm,
            dim,
            self.scale,
            self.bias,
            self.eps,
            list(shifts),
            [True, True, needs_scale],
        )
        return grad_z.to(compute_dtype(grad_z.dtype)), grad_scale
