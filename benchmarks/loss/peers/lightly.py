"""Lightly's NTXentLoss, as its users call it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from benchmarks.loss.peers.peer import Peer
from simclr_ext.bench.baselines import Loss


def _load() -> Loss:
    from lightly.loss import NTXentLoss

    module = functools.cache(NTXentLoss)

    def loss(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        criterion: torch.nn.Module = module(temperature)
        value: Tensor = criterion(z0, z1)
        return value

    return loss


PEER = Peer("lightly", _load, package="lightly")
