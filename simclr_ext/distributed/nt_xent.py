"""NT-Xent over the union of the ranks' batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from simclr_ext._checks import check_temperature_value, operator_temperature
from simclr_ext.backends.ops import register
from simclr_ext.backends.reference import REDUCTIONS, Reduction
from simclr_ext.distributed.agreement import agree, dtype_number
from simclr_ext.distributed.blocks import Blocks
from simclr_ext.distributed.gather import Gather
from simclr_ext.distributed.ranks import Ranks
from simclr_ext.distributed.ring import Ring

Exchange = Literal["gather", "ring"]
EXCHANGES = get_args(Exchange)
_FUNCTIONS = {"gather": Gather, "ring": Ring}


@dataclass(frozen=True)
class Arguments:
    """The arguments of one rank, checked.

    Args:
        z0: Embeddings of this rank's first views, [N, D].
        z1: Embeddings of its second views, [N, D], of the dtype of ``z0``.
        temperature: T > 0, a number or a 0-d tensor.
        reduction: Over the rows of all ranks; "none": the losses of this rank's 2N rows.
        normalize: Whether similarities are cosines.
        eps: Smallest norm.
        backend: "fused" or "tiled".
        exchange: How the ranks' rows meet.
    """

    z0: Tensor
    z1: Tensor
    temperature: float | Tensor
    reduction: Reduction
    normalize: bool
    eps: float
    backend: str
    exchange: Exchange

    def facts(self) -> dict[str, float]:
        """Return what must be the same on all ranks; raise ValueError if it cannot be computed."""
        if self.exchange not in EXCHANGES:
            raise ValueError(f"exchange must be one of {EXCHANGES}, got {self.exchange!r}")
        if self.backend not in ("fused", "tiled"):
            raise ValueError(
                f"backend must be 'auto', 'fused' or 'tiled' with a group, got {self.backend!r}"
            )
        if self.backend == "fused":
            register()
        value = operator_temperature(self.temperature, self.z0.device)
        values = (
            float(self.z0.shape[1]),
            dtype_number(self.z0),
            check_temperature_value(value),
            float(REDUCTIONS.index(self.reduction)),
            float(self.normalize),
            self.eps,
            float(EXCHANGES.index(self.exchange)),
        )
        return dict(zip(FACTS, values, strict=True))


FACTS = ("D", "dtype", "temperature", "reduction", "normalize", "eps", "exchange")


def nt_xent(ranks: Ranks, arguments: Callable[[], Arguments]) -> Tensor:
    """Return the reduced losses of the union batch, or with "none" those of this rank's 2N rows.

    Args:
        ranks: The processes.
        arguments: Checks and returns those of this rank. What it raises is raised on all ranks.

    Raises:
        Exception: What ``arguments`` raised.
        ValueError: If another rank has an error, or other arguments.
    """
    error: Exception | None = None
    facts, rows = dict.fromkeys(FACTS, 0.0), 0
    try:
        own = arguments()
        facts, rows = own.facts(), len(own.z0)
    except Exception as caught:  # raised below, when the other ranks know of it
        error = caught
    sizes = [2 * n for n in agree(ranks, error, rows, facts)]
    value = torch.scalar_tensor(facts["temperature"], dtype=torch.float64, device="cpu")
    blocks = Blocks(value, own.normalize, own.eps, own.backend, own.z0.shape[1])
    losses: Tensor = _FUNCTIONS[own.exchange].apply(
        torch.cat([own.z0, own.z1]), own.temperature, blocks, ranks, sizes
    )
    if own.reduction == "none":
        return losses
    total: Tensor = _SumOverRanks.apply(losses.sum(dtype=torch.float64), ranks)
    return (total / sum(sizes) if own.reduction == "mean" else total).to(losses.dtype)


class _SumOverRanks(torch.autograd.Function):
    """The sum over the ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.reduce(value, "sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.reduce(grad, "sum"), None
