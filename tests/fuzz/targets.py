"""The readers of files that others may have written, each with a few files to start from.

A reader gets a file of any bytes. It returns, or raises an error of `simclr_ext.options.errors`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentError
from PIL import Image, features
from safetensors.torch import save

from simclr_ext import cli
from simclr_ext.options.errors import UserError
from simclr_ext.studies.engine.study import Cell
from simclr_ext.studies.engine.sweep import outcomes
from simclr_ext.trainer.commands.model_card import model_card
from simclr_ext.trainer.config import ModelConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.data import open_data
from simclr_ext.trainer.data.files import FileReader
from simclr_ext.trainer.data.images import LazyImages
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.model.hub import read_hub, write_hub
from simclr_ext.trainer.model.initial import initialize
from simclr_ext.trainer.model.simclr import SimCLR, build_model
from simclr_ext.trainer.training.run_folder import RunFolder

ALLOWED = (UserError, ArgumentError)  # the latter is that of the command line


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        read: Reads a file of these bytes, which it writes into a folder.
        seeds: Returns files to start from.
    """

    read: Callable[[Path, bytes], object]
    seeds: Callable[[], Iterator[bytes]]


def _written(path: Path, contents: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return path


def read_image(folder: Path, contents: bytes) -> None:
    _written(folder / "a.png", contents)
    images = LazyImages.all_of(FileReader(str(folder), np.array([b"a.png"])))
    with images.open(0) as picture:
        if max(picture.size) <= 4096:  # more only takes time
            picture.whole()


def image_seeds() -> Iterator[bytes]:
    color = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    gray, deep = color[..., 0].copy(), color[..., 0].astype(np.uint16) * 257
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (Image.fromarray(color), name, {})
        for name in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "PCX", "SGI", "DDS")
    ]
    kinds += [(Image.fromarray(gray), name, {}) for name in ("PNG", "JPEG", "IM", "BMP")]
    kinds += [(Image.fromarray(gray).convert("1"), name, {}) for name in ("XBM", "MSP")]
    kinds += [(Image.fromarray(deep), name, {}) for name in ("PNG", "TIFF")]
    kinds += [(Image.fromarray(color), "TIFF", {"compression": "tiff_lzw"})]
    kinds += [(Image.fromarray(color).convert("P"), "PNG", {"transparency": 3})]
    optional = {"webp": "WEBP", "jpg_2000": "JPEG2000", "avif": "AVIF"}
    kinds += [
        (Image.fromarray(color), kind, {})
        for name, kind in optional.items()
        if features.check(name)
    ]
    for image, kind, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        yield buffer.getvalue()


def _data(folder: Path, name: str, contents: bytes) -> None:
    open_data(str(_written(folder / name, contents)), workers=1)


def read_npy(folder: Path, contents: bytes) -> None:
    _data(folder, "a.npy", contents)


def npy_seeds() -> Iterator[bytes]:
    images = [np.arange(48, dtype=np.uint8).reshape(3, 4, 4), np.ones((2, 4, 4, 3), order="F")]
    for array in (*images, np.array(["ant", "bee"]), np.array([0, 1, 1])):
        buffer = io.BytesIO()
        np.save(buffer, array)
        yield buffer.getvalue()


def read_npz(folder: Path, contents: bytes) -> None:
    _data(folder, "a.npz", contents)


def npz_seeds() -> Iterator[bytes]:
    images = np.arange(96, dtype=np.uint8).reshape(6, 4, 4)
    for write in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        write(buffer, train_images=images, train_labels=np.arange(6) % 2, class_names=["a", "b"])
        yield buffer.getvalue()


def read_npz_array(name: str, folder: Path, contents: bytes) -> None:
    """Read the bytes as one array of an archive, behind a right checksum."""
    images, labels = _arrays()
    members = {"train_images": images, "train_labels": labels, name: contents}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, npy in members.items():
            archive.writestr(f"{member}.npy", npy)
    _data(folder, "b.npz", buffer.getvalue())


@cache
def _arrays() -> tuple[bytes, bytes]:
    images, labels = io.BytesIO(), io.BytesIO()
    np.save(images, np.zeros((3, 4, 4), np.uint8))
    np.save(labels, np.array([0, 1, 1]))
    return images.getvalue(), labels.getvalue()


def read_idx(folder: Path, contents: bytes) -> None:
    labels = struct.pack(">HBBI", 0, 8, 1, 5) + bytes(5)
    images = struct.pack(">HBB3I", 0, 8, 3, 5, 4, 3) + bytes(60)
    first = "train-images-idx3-ubyte"
    for name, other in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        _written(folder / "idx" / name, other)
    _written(folder / "idx" / "train-labels-idx1-ubyte", labels)
    plain, packed = folder / "idx" / first, folder / "idx" / f"{first}.gz"
    for path in (plain, packed):
        path.unlink(missing_ok=True)
    _written(packed if contents[:2] == b"\x1f\x8b" else plain, contents)
    open_data(str(folder / "idx"))


def idx_seeds() -> Iterator[bytes]:
    plain = struct.pack(">HBB3I", 0, 8, 3, 5, 4, 3) + bytes(range(60))
    yield plain
    yield gzip.compress(plain)


def read_tar(folder: Path, contents: bytes) -> None:
    _data(folder, "a.tar", contents)


def tar_seeds() -> Iterator[bytes]:
    picture = next(image_seeds())
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
            for name, content in {"x/1.png": picture, "x/1.cls": b"3", "u" * 90: b""}.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        yield buffer.getvalue()[:5120]


def read_list(name: str, folder: Path, contents: bytes) -> None:
    _written(folder / "a.png", next(image_seeds()))
    _data(folder, name, contents)


def csv_seeds() -> Iterator[bytes]:
    yield b"path,label,split\na.png,red,train\n"
    yield b"path\na.png\n"


def text_seeds() -> Iterator[bytes]:
    yield b"a.png\n"
    yield "\ufeff**/*.png\n".encode()


@cache
def run_config() -> ResolvedConfig:
    model = ModelConfig(width=2, blocks=(1,), projection_dim=2)
    return TrainConfig(model=model, image_size=8).resolve(1, 8, 8)


@cache
def _checkpoint_bytes() -> bytes:
    """Return what torch.save writes of a checkpoint, without the digest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        save_checkpoint(path, build_model(run_config()), run_config(), 1, {"step": 1})
        return path.read_bytes()[:-32]


def read_checkpoint(folder: Path, contents: bytes) -> None:
    """Read the bytes with a right digest, which whoever writes such a file would add."""
    load_checkpoint(_written(folder / "checkpoint.pt", _with_digest(contents)))


def _with_digest(contents: bytes) -> bytes:
    return contents + hashlib.sha256(contents).digest()


def checkpoint_seeds() -> Iterator[bytes]:
    yield _checkpoint_bytes()


def read_pickle(folder: Path, contents: bytes) -> None:
    """Read the bytes as the pickle in a checkpoint."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_checkpoint_bytes())) as old,
        zipfile.ZipFile(buffer, "w") as new,
    ):
        for member in old.infolist():
            is_pickle = member.filename.endswith("data.pkl")
            new.writestr(member.filename, contents if is_pickle else old.read(member))
    read_checkpoint(folder, buffer.getvalue())


def pickle_seeds() -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(_checkpoint_bytes())) as archive:
        yield next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))


def read_weights(name: str, folder: Path, contents: bytes) -> None:
    """Read the bytes as weights to start from."""
    path = _written(folder / name, contents)
    config = TrainConfig(model=run_config().model, init=str(path), image_size=8).resolve(1, 8, 8)
    initialize(SimCLR(config.model, 1), config)


_TENSORS = {"conv1.weight": torch.zeros(2, 1, 3, 3), "bn1.weight": torch.ones(2)}


def weights_seeds() -> Iterator[bytes]:
    for zipped in (True, False):
        buffer = io.BytesIO()
        contents = {"state_dict": _TENSORS, "epoch": 3}
        torch.save(contents, buffer, _use_new_zipfile_serialization=zipped)
        yield buffer.getvalue()


def safetensors_seeds() -> Iterator[bytes]:
    yield save(_TENSORS)


def read_hub_config(folder: Path, contents: bytes) -> None:
    if not (folder / "hub" / "model.safetensors").exists():
        write_hub(folder / "hub", build_model(run_config()).encoder, run_config())
    _written(folder / "hub" / "config.json", contents)
    read_hub(folder / "hub")


def hub_seeds() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as name:
        write_hub(Path(name) / "hub", build_model(run_config()).encoder, run_config())
        yield (Path(name) / "hub" / "config.json").read_bytes()


def read_run_config(folder: Path, contents: bytes) -> None:
    """Read the bytes as the configuration beside a checkpoint."""
    _written(folder / "config.yaml", contents)
    RunFolder(folder)._compare_config(run_config())


def read_options(folder: Path, contents: bytes) -> None:
    """Read the bytes as the options of a new run."""
    path = _written(folder / "options.yaml", contents)
    _parser().parse_args(["train", "--config", str(path)])


@cache
def _parser() -> Any:
    return cli.build_parser()


def config_seeds() -> Iterator[bytes]:
    yield yaml.safe_dump(run_config().options.to_dict(), sort_keys=False).encode()
    yield b"augment: &a {flip_probability: 0.5}\nseed: !!int '3'\n"


def read_cell(folder: Path, contents: bytes) -> None:
    """Read the bytes as the rows of a study's cell."""
    cell = Cell({"x": "a"}, seed=0)
    _written(folder / "cells" / f"{cell.id}.json", contents)
    outcomes(folder, [cell])


def read_scores(folder: Path, contents: bytes) -> None:
    """Read the bytes as the accuracies of a run."""
    _written(folder / "evaluation.json", contents)
    model_card(_loaded(), folder / "checkpoint.pt")


@cache
def _loaded() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return load_checkpoint(_written(Path(folder) / "a.pt", _with_digest(_checkpoint_bytes())))


def cell_seeds() -> Iterator[bytes]:
    yield b'{"seconds": 1.5, "rows": [{"x": "a", "seed": 0, "y": 0.25}]}\n'


def scores_seeds() -> Iterator[bytes]:
    accuracy = b'{"mean": 0.5, "std": 0.0, "draws": [0.5]}'
    kinds = (b"linear_few", b"knn_few", b"linear_all", b"knn_all")
    row = b", ".join(b'"' + kind + b'": ' + accuracy for kind in kinds)
    yield b'{"step": 1, "test_accuracy": {"trained encoder": {' + row + b"}}}"


TARGETS = {
    "cell": Target(read_cell, cell_seeds),
    "checkpoint": Target(read_checkpoint, checkpoint_seeds),
    "csv": Target(partial(read_list, "list.csv"), csv_seeds),
    "hub": Target(read_hub_config, hub_seeds),
    "idx": Target(read_idx, idx_seeds),
    "image": Target(read_image, image_seeds),
    "npy": Target(read_npy, npy_seeds),
    "npz": Target(read_npz, npz_seeds),
    "npz-images": Target(partial(read_npz_array, "train_images"), npy_seeds),
    "npz-labels": Target(partial(read_npz_array, "train_labels"), npy_seeds),
    "npz-names": Target(partial(read_npz_array, "class_names"), npy_seeds),
    "options": Target(read_options, config_seeds),
    "pickle": Target(read_pickle, pickle_seeds),
    "run-config": Target(read_run_config, config_seeds),
    "safetensors": Target(partial(read_weights, "a.safetensors"), safetensors_seeds),
    "scores": Target(read_scores, scores_seeds),
    "tar": Target(read_tar, tar_seeds),
    "text": Target(partial(read_list, "list.txt"), text_seeds),
    "weights": Target(partial(read_weights, "a.pt"), weights_seeds),
}
