"""`torch.compile` of what most people write."""

from __future__ import annotations

from benchmarks.loss.peers.peer import Peer
from simclr_ext.bench import baselines

PEER = Peer("torch.compile", lambda: baselines.compiled, compiles=True)
