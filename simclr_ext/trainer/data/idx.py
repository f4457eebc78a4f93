"""IDX files, the format of MNIST and Fashion-MNIST: plain or compressed, in any folder."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.dataset import Dataset, Part

_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_UINT8 = 8  # the code of the type in an IDX file's third byte
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist


def is_idx_folder(folder: Path) -> bool:
    """Return whether a folder has MNIST's training images."""
    return any((folder / f"train-images-idx3-ubyte{suffix}").is_file() for suffix in ("", ".gz"))


def load_idx(folder: Path, name: str, class_names: tuple[str, ...] = _FASHION) -> Dataset:
    """Return the data set in the four IDX files of a folder, with MNIST's file names.

    Raises:
        DataError: A file is missing or not an IDX file, or images and labels differ in number.
    """
    parts = []
    for part in ("train", "t10k"):
        images = read_idx(_find(folder, f"{part}-images-idx3-ubyte"), 3)
        labels = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"), 1)
        if len(images) != len(labels):
            raise DataError(f"{folder}: {len(images)} images and {len(labels)} labels in {part}")
        if int(labels.max()) >= len(class_names):
            raise DataError(f"{folder}: labels up to {labels.max()}, {len(class_names)} classes")
        parts.append(Part.of(images[:, None], labels.long()))
    train, test = parts
    return Dataset(name, train, test, class_names)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Return the array of bytes in an IDX file, compressed if its name ends in .gz.

    Raises:
        DataError: The file holds something else.
    """
    opener = gzip.open if path.suffix == ".gz" else Path.open
    try:
        with opener(path, "rb") as file:
            contents: bytes = file.read()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: not readable ({error})") from error
    header = 4 + 4 * dimensions
    if contents[:4] != bytes((0, 0, _UINT8, dimensions)) or len(contents) < header:
        raise DataError(f"{path}: not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack_from(f">{dimensions}I", contents, 4)
    if len(contents) - header != math.prod(shape) or 0 in shape:
        raise DataError(f"{path}: {len(contents) - header} bytes for the shape {list(shape)}")
    values = np.frombuffer(contents, np.uint8, offset=header).reshape(shape)
    return torch.from_numpy(values.copy())


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder}: missing {name} (or {name}.gz)")
