"""Liger's fused linear cross-entropy in Triton, on the rectangular problem."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.loss.peers.peer import Peer, rectangular, unmasked
from simclr_ext.bench.baselines import Loss


def _load() -> Loss:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    criterion = LigerFusedLinearCrossEntropyLoss()

    def loss(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        q, k = unmasked(z0, z1, temperature)
        value: Tensor = criterion(k, q, torch.arange(len(q), device=q.device))
        return value

    return loss


PEER = Peer("Liger", _load, rectangular, "liger-kernel", devices=("cuda",))
