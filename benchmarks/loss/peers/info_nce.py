"""info-nce-pytorch, whose negatives are the other rows' positives: the rectangular problem."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.loss.peers.peer import Peer, rectangular
from simclr_ext.bench.baselines import Loss


def _load() -> Loss:
    from info_nce import info_nce

    def loss(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        z = torch.cat([z0, z1])
        value: Tensor = info_nce(z, z.roll(len(z0), dims=0), temperature=temperature)
        return value

    return loss


PEER = Peer("info-nce-pytorch", _load, rectangular, "info-nce-pytorch")
