"""The implementations that are compared, each a function of two views [N, D] and a temperature."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext import nt_xent_loss

Loss = Callable[[Tensor, Tensor, float], Tensor]


def eager(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
    """What most people write: the whole matrix, its diagonal masked, cross-entropy."""
    z = F.normalize(torch.cat([z0, z1]), dim=1)
    logits = z @ z.T / temperature
    logits.fill_diagonal_(-torch.inf)
    positives = torch.arange(len(z), device=z.device).roll(len(z0))
    return F.cross_entropy(logits, positives)


compiled: Loss = torch.compile(eager, dynamic=False)


@functools.cache
def _lightly_module(temperature: float) -> torch.nn.Module:
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature)


def lightly(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
    """Lightly's module, as its users call it."""
    loss: Tensor = _lightly_module(temperature)(z0, z1)
    return loss


PEERS: dict[str, Loss] = {
    "simclr-ext": nt_xent_loss,
    "eager": eager,
    "torch.compile": compiled,
    "lightly": lightly,
}
