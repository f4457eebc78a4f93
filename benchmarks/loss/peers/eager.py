"""What most people write in PyTorch."""

from __future__ import annotations

from benchmarks.loss.peers.peer import Peer
from simclr_ext.bench import baselines

PEER = Peer("eager", lambda: baselines.eager)
