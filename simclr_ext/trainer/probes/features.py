"""Features: h of images, computed once and cached on disk."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simclr_ext.trainer.atomic import replacing
from simclr_ext.trainer.data import Images, LazyImages
from simclr_ext.trainer.probes.optional import EvaluationWarning
from simclr_ext.trainer.views.image_ops import resize

Features = NDArray[np.float32]  # [n, dim]
Labels = NDArray[np.int64]  # [n]


def pixels(images: Images) -> Features:
    """Return images [n, C, H, W] uint8 as rows of values in [0, 1], [n, C H W]."""
    rows: Features = (images[:].flatten(1).float() / 255).numpy()
    return rows


@torch.no_grad()
def encode(encoder: nn.Module, images: Images, size: int, chunk: int = 512) -> Features:
    """Return h of images, whole and unaugmented.

    Args:
        encoder: Run in evaluation mode; its mode is restored at the end, also of an error.
        images: [n, C, H, W] uint8, on any device, or files.
        size: Side in pixels to which images are resized.
        chunk: Images at a time.

    Returns:
        [n, dim] float32.
    """
    training = encoder.training
    encoder.eval()
    try:
        return _encode(encoder, images, size, chunk)
    finally:
        encoder.train(training)


def _encode(encoder: nn.Module, images: Images, size: int, chunk: int) -> Features:
    device = next(encoder.parameters()).device
    features = np.empty((0, 0), np.float32)
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].to(device)
        h = encoder(resize(part, size)).cpu().numpy()
        if start == 0:  # filled chunk by chunk: no second copy in memory
            features = np.empty((len(images), h.shape[1]), np.float32)
        features[start : start + chunk] = h
    return features


class FeatureCache:
    """A cache of features on disk, keyed by their inputs.

    Args:
        folder: Folder of the cache, with one .npy file per key; None: nothing is cached.

    Example:
        >>> import tempfile
        >>> cache = FeatureCache(Path(tempfile.mkdtemp()))
        >>> compute = lambda: np.ones((2, 3), np.float32)
        >>> cache.get("key", compute).shape, cache.get("key", lambda: 1 / 0).shape
        ((2, 3), (2, 3))
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, key: str, compute: Callable[[], Features]) -> Features:
        """Return the features of a key; they are computed if the cache does not have them.

        Args:
            key: Hash of everything that the features depend on; see `fingerprint`.
            compute: Computes them.
        """
        if self._folder is None:
            return compute()
        path = self._folder / f"{key}.npy"
        if (kept := _kept(path)) is not None:
            return kept
        features = compute()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(path, f".{os.getpid()}.partial") as file:  # another may compute the same
                np.save(file, features)
        except OSError as error:  # they can be computed again
            text = f"features are not kept: {error.strerror or error}"
            warnings.warn(f"{self._folder}: {text}", EvaluationWarning, stacklevel=2)
        return features


def _kept(path: Path) -> Features | None:
    """Return the features in a file; None: it is missing, damaged, or holds something else."""
    try:
        kept: Features = np.load(path, allow_pickle=False)
    except Exception:  # reading a damaged file may raise any exception
        return None
    right = isinstance(kept, np.ndarray) and kept.ndim == 2 and kept.dtype == np.float32
    return kept if right else None


def fingerprint(*parts: object) -> str:
    """Return a hash of the contents of files and tensors, and of the text of anything else.

    Images that are decoded on demand are hashed by their reader's versions, and by the
    background.

    Example:
        >>> fingerprint(torch.zeros(2), 16) == fingerprint(torch.zeros(2), 16)
        True
        >>> fingerprint(torch.zeros(2), 16) == fingerprint(torch.ones(2), 16)
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            digest.update(part.read_bytes())
        elif isinstance(part, Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.cpu().contiguous().numpy().data)
        elif isinstance(part, LazyImages):
            for version in (part.background, *part.versions()):
                digest.update(repr(version).encode())
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]
