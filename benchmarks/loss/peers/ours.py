"""This package's backends."""

from __future__ import annotations

import functools

from benchmarks.loss.peers.peer import Peer
from simclr_ext import nt_xent_loss
from simclr_ext.bench.baselines import Loss


def _fused() -> Loss:
    return functools.partial(nt_xent_loss, backend="fused")


def _tiled() -> Loss:
    return functools.partial(nt_xent_loss, backend="tiled")


FUSED = Peer("simclr-ext", _fused)
TILED = Peer("simclr-ext tiled", _tiled)
