"""IDX files, the format of MNIST and Fashion-MNIST: plain or compressed, in any folder."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.dataset import Dataset, Part
from simclr_ext.trainer.data.memory import check_memory

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
        DataError: The file holds something else, or takes more memory than there is.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                with gzip.open(file) as unpacked:
                    return _read(path, unpacked, dimensions)
            return _read(path, file, dimensions)
    except DataError:
        raise
    except Exception as error:  # unpacking a damaged file may raise any exception
        raise DataError(f"{path}: not readable ({error})") from error


def _read(path: Path, file: BinaryIO | gzip.GzipFile, dimensions: int) -> Tensor:
    """Return the array in an open file, of which no more is read than its header says."""
    header = file.read(4 + 4 * dimensions)
    if header[:4] != bytes((0, 0, _UINT8, dimensions)) or len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path}: not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack_from(f">{dimensions}I", header, 4)
    size = math.prod(shape)
    check_memory(str(path), size)
    contents = file.read(size + 1)
    if len(contents) != size or 0 in shape:
        found = f"{len(contents)}" if len(contents) <= size else f"more than {size}"
        raise DataError(f"{path}: {found} bytes for the shape {list(shape)}")
    return torch.from_numpy(np.frombuffer(contents, np.uint8).reshape(shape).copy())


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder}: missing {name} (or {name}.gz)")
