"""Small data sets on disk, and what their pictures must become."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simclr_ext.trainer.data import LazyImages
from simclr_ext.trainer.data.files import FileReader, to_array

# What the orientations of EXIF do to the rows and columns of a stored image, [H, W, ...].
UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def write_folder(
    root: Path,
    sizes: Sequence[tuple[int, int]],
    per_class: int = 6,
    test: str = "test",
    classes: Sequence[str] = ("cat", "dog"),
) -> None:
    """Write train/ and a test folder with images of the classes, of the sizes in turn."""
    random = np.random.default_rng(0)
    for part in ("train", test):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for index in range(per_class):
                width, height = sizes[index % len(sizes)]
                pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")


def lazy_images(paths: Sequence[str | Path], **options: int) -> LazyImages:
    """Return images in files."""
    reader = FileReader("", to_array(list(map(os.fsencode, paths))))
    return dataclasses.replace(LazyImages.all_of(reader), **options)


def colors(path: Path) -> int:
    """Read a PNG and count the colors of its pixels."""
    return len(np.unique(read(path).reshape(-1, 3), axis=0))


def read(path: Path) -> NDArray[np.float32]:
    """Return the pixels of a PNG, [H, W, 3]."""
    return matplotlib.image.imread(path)[..., :3]
