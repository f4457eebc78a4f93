"""open_clip's ClipLoss on the rectangular problem.

It takes the cross-entropy of rows and of columns, which are equal here: by symmetry, column i holds
the similarities of the row that is the positive of i.
"""

from __future__ import annotations

from torch import Tensor

from benchmarks.loss.peers.peer import Peer, rectangular, unmasked
from simclr_ext.bench.baselines import Loss


def _load() -> Loss:
    from open_clip.loss import ClipLoss

    criterion = ClipLoss()

    def loss(z0: Tensor, z1: Tensor, temperature: float) -> Tensor:
        value: Tensor = criterion(*unmasked(z0, z1, temperature), 1.0)
        return value

    return loss


PEER = Peer("open_clip", _load, rectangular, "open-clip-torch")
