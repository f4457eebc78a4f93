"""What a peer is, and the two problems that peers compute."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.loss.cases import PASS_CALLS
from simclr_ext import nt_xent_loss
from simclr_ext.bench.baselines import Loss
from simclr_ext.bench.machine import Pass

# The same loss as ours: the package's reference.
nt_xent: Loss = functools.partial(nt_xent_loss, backend="reference")


def unmasked(z0: Tensor, z1: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return q and k [2N, D] whose plain cross-entropy is NT-Xent with each row's own column.

    For rectangular losses: the positive of row i of q is row i of k. As many similarities as
    NT-Xent has, of the same rows, and gradients of the same views.
    """
    q = F.normalize(torch.cat([z0, z1]), dim=1)
    return q / temperature, q.roll(len(z0), dims=0)


def rectangular(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
    """Compute the loss of the rectangular peers, with the whole matrix in memory."""
    q, k = unmasked(z0, z1, temperature)
    return F.cross_entropy(q @ k.T, torch.arange(len(q), device=q.device))


def through_torch(
    loss: Loss, inputs: tuple[Tensor, Tensor], temperature: float, what: Pass
) -> Callable[[], object]:
    """Return the call that computes the passes as a training step in torch does."""
    return functools.partial(PASS_CALLS[what], loss, inputs, temperature)


@dataclass(frozen=True)
class Peer:
    """An implementation that is compared.

    Attributes:
        name: For people, and in the results.
        load: Imports it and returns the loss; raises what the import raises.
        truth: What it computes, `nt_xent` or `rectangular`: its reference in float64.
        package: The pip package to install; None: nothing.
        devices: Types of the devices that it runs on.
        in_torch: Whether torch's threads and torch's allocator do the work. If not,
            `torch.set_num_threads` does not limit it, and torch does not see its memory.
        compiles: Whether it compiles for each shape; its memory is measured after that.
        timed: Returns the call that is timed; avoids torch where that would take extra time.
    """

    name: str
    load: Callable[[], Loss]
    truth: Loss = nt_xent
    package: str | None = None
    devices: tuple[str, ...] = ("cpu", "cuda")
    in_torch: bool = True
    compiles: bool = False
    timed: Callable[[Loss, tuple[Tensor, Tensor], float, Pass], Callable[[], object]] = (
        through_torch
    )

    def obstacle(self, threads: int) -> str | None:
        """Return why it cannot run with a number of threads, None if it can."""
        if self.in_torch or threads == os.cpu_count():
            return None
        return "skipped: its number of threads cannot be set"

    @property
    def problem(self) -> str:
        """Return what it computes, in a word."""
        return "NT-Xent" if self.truth is nt_xent else "rectangular"
