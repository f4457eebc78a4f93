"""The implementations that are compared, a file each; which can run here, and why others cannot.

A peer that is not installed, or does not support the device, is skipped with the reason; it is
never silently replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from benchmarks.loss.peers import (
    chunked,
    compiled,
    cut_cross_entropy,
    eager,
    inf_cl,
    info_nce,
    jax,
    liger,
    lightly,
    open_clip,
    ours,
    pytorch_metric_learning,
)
from benchmarks.loss.peers.peer import Peer, nt_xent, rectangular
from simclr_ext.bench.baselines import Loss

__all__ = ["OURS", "PEERS", "TILED", "Peer", "find", "nt_xent", "ours", "rectangular", "versions"]

OURS, TILED = ours.FUSED.name, ours.TILED.name
PEERS: tuple[Peer, ...] = (
    ours.FUSED,
    ours.TILED,
    eager.PEER,
    compiled.PEER,
    chunked.PEER,
    lightly.PEER,
    pytorch_metric_learning.PEER,
    info_nce.PEER,
    open_clip.PEER,
    cut_cross_entropy.PEER,
    inf_cl.PEER,
    liger.PEER,
    jax.OURS,
    jax.OPTAX,
    jax.DENSE,
)


def find(
    peers: Iterable[Peer], device: str = "cpu"
) -> tuple[dict[str, tuple[Peer, Loss]], dict[str, str]]:
    """Load peers.

    Args:
        peers: The peers to load.
        device: Type of the device to run on.

    Returns:
        Those that can run there, each with its loss, and why the others cannot, by name.
    """
    found, skipped = {}, {}
    for peer in peers:
        if device not in peer.devices:
            skipped[peer.name] = f"skipped: runs on {' or '.join(peer.devices)} only"
            continue
        try:
            found[peer.name] = (peer, peer.load())
        except Exception as error:  # some raise more than ImportError without a GPU
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            install = f"; pip install {peer.package}" if isinstance(error, ImportError) else ""
            skipped[peer.name] = f"skipped: {reason}{install}"
    return found, skipped


def versions(peers: Iterable[Peer]) -> dict[str, str]:
    """Return the versions of the peers' installed packages."""
    found = {}
    for package in dict.fromkeys(peer.package for peer in peers if peer.package):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
