"""pytorch-metric-learning's NTXentLoss with one label per pair.

It leaves other positives out of the denominator; with one positive per row there are none, so it
is NT-Xent. It creates a row of logits for every pair: O(N^3) memory.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from benchmarks.loss.peers.peer import Peer
from simclr_ext.bench.baselines import Loss


def _load() -> Loss:
    from pytorch_metric_learning.losses import NTXentLoss

    module = functools.cache(NTXentLoss)

    def loss(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        labels = torch.arange(len(z0), device=z0.device).repeat(2)
        value: Tensor = module(temperature)(torch.cat([z0, z1]), labels)
        return value

    return loss


PEER = Peer("pytorch-metric-learning", _load, package="pytorch-metric-learning")
