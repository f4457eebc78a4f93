"""Inf-CL's FlashAttention-style contrastive loss in Triton, on the rectangular problem."""

from __future__ import annotations

from torch import Tensor

from benchmarks.loss.peers.peer import Peer, rectangular, unmasked
from simclr_ext.bench.baselines import Loss


def _load() -> Loss:
    from inf_cl import cal_flash_loss

    def loss(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        q, k = unmasked(z0, z1, temperature)
        value: Tensor = cal_flash_loss(q, k, head_dim=q.shape[1]).mean()
        return value

    return loss


PEER = Peer("Inf-CL", _load, rectangular, "inf-cl", devices=("cuda",))
