"""Features: their values, and their cache."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simclr_ext.trainer.config import ModelConfig
from simclr_ext.trainer.data import LazyImages
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.probes.features import FeatureCache, Features, encode, fingerprint, pixels
from simclr_ext.trainer.views.image_ops import resize
from tests.trainer.helpers import lazy_images, write_folder


def test_encode_is_the_encoder_in_evaluation_mode() -> None:
    model = SimCLR(ModelConfig(width=4, blocks=(1, 1)), channels=3)
    images = torch.randint(256, (7, 3, 9, 9), dtype=torch.uint8)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    features = encode(model.encoder, images, size=16, chunk=3)
    assert model.encoder.training  # as before
    assert all(torch.equal(value, before[n]) for n, value in model.encoder.state_dict().items())
    expected = model.eval().encoder(resize(images, 16)).detach().numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_encode_restores_the_mode_of_an_encoder_that_fails() -> None:
    encoder = SimCLR(ModelConfig(width=4, blocks=(1, 1)), channels=3).encoder
    with pytest.raises(RuntimeError, match="channels"):
        encode(encoder, torch.zeros(2, 5, 9, 9, dtype=torch.uint8), size=16)
    assert encoder.training


def test_files_are_encoded_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "pets", [(30, 20), (18, 40)])
    files = lazy_images(sorted((tmp_path / "pets/train/cat").iterdir()), side=16)
    encoder = SimCLR(ModelConfig(width=4, blocks=(1, 1)), channels=3).encoder
    expected = encode(encoder, files[:], size=16, chunk=4)
    lengths = []
    read = LazyImages.read

    def spy(*arguments: Any) -> torch.Tensor:
        images = read(*arguments)
        lengths.append(len(images))
        return images

    monkeypatch.setattr(LazyImages, "read", spy)
    assert np.array_equal(encode(encoder, files, size=16, chunk=4), expected)
    assert lengths == [4, 2]


def test_pixels() -> None:
    images = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    np.testing.assert_allclose(pixels(images), [[0, 1, 0.2, 0.4]])


def fail() -> Features:
    raise ArithmeticError("computed again")


def test_cache_computes_once(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features")
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert cache.get("one", lambda: features) is features
    again = FeatureCache(tmp_path / "features").get("one", fail)
    assert again.dtype == np.float32
    assert np.array_equal(again, features)
    with pytest.raises(ArithmeticError, match="computed again"):
        cache.get("other", fail)
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["one.npy"]


def test_damaged_features_are_computed_again(tmp_path: Path) -> None:
    (tmp_path / "one.npy").write_bytes(b"half")
    features = np.ones((2, 3), np.float32)
    cache = FeatureCache(tmp_path)
    assert cache.get("one", lambda: features) is features
    assert np.array_equal(cache.get("one", fail), features)


def test_without_a_folder_nothing_is_kept() -> None:
    cache = FeatureCache(None)
    cache.get("one", lambda: np.zeros((1, 1), np.float32))
    with pytest.raises(ArithmeticError):
        cache.get("one", fail)


def test_fingerprint_depends_on_every_part(tmp_path: Path) -> None:
    file, images = tmp_path / "checkpoint.pt", torch.arange(12, dtype=torch.uint8)
    file.write_bytes(b"weights")
    base = fingerprint(file, images, 8, "trained")
    assert base == fingerprint(file, images.clone(), 8, "trained")
    others = [
        fingerprint(file, images, 9, "trained"),
        fingerprint(file, images, 8, "untrained"),
        fingerprint(file, images.flip(0), 8, "trained"),
        fingerprint(file, images.view(3, 4), 8, "trained"),
        fingerprint(file, images.to(torch.int8), 8, "trained"),
    ]
    file.write_bytes(b"others")
    others.append(fingerprint(file, images, 8, "trained"))
    assert len({base, *others}) == 7


def test_fingerprint_of_image_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", [(3, 2)], per_class=2)
    paths = sorted((tmp_path / "pets/train/cat").iterdir())
    files = lazy_images(paths, side=8)
    base = fingerprint(files)
    assert base == fingerprint(lazy_images(paths, side=8, workers=5))
    found = {base, fingerprint(lazy_images(paths[::-1], side=8))}
    found.add(fingerprint(lazy_images(paths, side=8, background=(0, 0, 0))))
    os.utime(paths[0], ns=(0, 10**18))
    found.add(fingerprint(files))
    paths[0].write_bytes(b"longer")
    os.utime(paths[0], ns=(0, 10**18))
    found.add(fingerprint(files))
    assert len(found) == 5
