"""What a peer is, and the two problems that peers compute."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.bench.baselines import Loss

# The same loss as ours: the readable reference of the package.
nt_xent: Loss = functools.partial(nt_xent_loss, backend="reference")


def unmasked(z0: Tensor, z1: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return q and k [2N, D] whose plain cross-entropy is NT-Xent with each row's own column.

    What rectangular losses can compute: row i of q belongs to row i of k, its positive. As many
    similarities as NT-Xent has, of the same rows, and gradients of the same views.
    """
    q = F.normalize(torch.cat([z0, z1]), dim=1)
    return q / temperature, q.roll(len(z0), dims=0)


def rectangular(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
    """Compute what the rectangular peers do, the whole matrix in memory."""
    q, k = unmasked(z0, z1, temperature)
    return F.cross_entropy(q @ k.T, torch.arange(len(q), device=q.device))


@dataclass(frozen=True)
class Peer:
    """An implementation that is compared.

    Attributes:
        name: For people, and in the results.
        load: Imports it and returns the loss; raises whatever importing it raises.
        truth: What it computes, `nt_xent` or `rectangular`: it is checked against that in float64.
        package: What to install, as pip calls it; None: nothing.
        devices: Types of the devices that it runs on.
        obeys_threads: Whether `torch.set_num_threads` limits it.
    """

    name: str
    load: Callable[[], Loss]
    truth: Loss = nt_xent
    package: str | None = None
    devices: tuple[str, ...] = ("cpu", "cuda")
    obeys_threads: bool = True

    @property
    def problem(self) -> str:
        """Return what it computes, in a word."""
        return "NT-Xent" if self.truth is nt_xent else "rectangular"
