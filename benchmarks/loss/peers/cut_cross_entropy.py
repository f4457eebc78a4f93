"""Apple's cut cross-entropy on the rectangular problem: the rows are its embeddings and classes.

On CUDA its Triton kernels; on the CPU its own `torch.compile` version, which holds the logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.loss.peers.peer import Peer, rectangular, unmasked
from simclr_ext.bench.baselines import Loss


def _load() -> Loss:
    from cut_cross_entropy import linear_cross_entropy

    def loss(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        q, k = unmasked(z0, z1, temperature)
        impl = "cce" if q.device.type == "cuda" else "torch_compile"
        value: Tensor = linear_cross_entropy(q, k, torch.arange(len(q), device=q.device), impl=impl)
        return value

    return loss


PEER = Peer("cut-cross-entropy", _load, rectangular, "cut-cross-entropy", compiles=True)
