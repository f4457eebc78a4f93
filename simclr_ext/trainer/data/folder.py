"""Folders of images: with or without a split into train/ and test/, with or without classes.

| folder | read as |
|---|---|
| `train/`, and `test/`, `val/` or `validation/` | training and test images, each as below |
| `train/` alone | training images, as below |
| `unlabeled/` beside `train/` | training images without labels |
| images in folders | a folder is a class; all below it belongs to it |
| images beside each other, or also in folders | images without labels |
| one class | images without labels |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.files import FileReader, find_images
from simclr_ext.trainer.data.listing import Listing, numbered
from simclr_ext.trainer.progress import say

_TRAIN, _UNLABELED = b"train", b"unlabeled"
_TESTS = (b"test", b"val", b"validation")  # the first of them that is there


def list_folder(folder: Path) -> Listing:
    """Return the images below a folder.

    Raises:
        DataError: There are none, or the folder cannot be read.
    """
    found = find_images(folder)
    if found.left_out is not None:
        say(f"{folder}: {found.left_out}")
    if len(found.paths) == 0:
        raise DataError(f"{folder}: no images in it")
    paths, test = found.paths, np.zeros(len(found.paths), dtype=bool)
    top, below = _first_folder(paths)
    if (top == _TRAIN).any():
        tests = [name for name in _TESTS if (top == name).any()][:1]
        used = np.isin(top, [_TRAIN, _UNLABELED, *tests])
        if not used.all():
            say(f"{folder}: {(~used).sum():,} images outside of train/ and test/ left out")
        paths, top, below = paths[used], top[used], below[used]
        test = np.isin(top, tests)
        classes = np.zeros_like(paths)
        for part in (top == _TRAIN, test):
            if part.any():
                classes[part] = _classes(below[part])
    else:
        classes = _classes(paths)
    return Listing(folder.name, FileReader(str(folder), paths), paths, *numbered(classes), test)


def _classes(paths: NDArray[np.bytes_]) -> NDArray[np.bytes_]:
    """Return the first folder of each path; b"" for all if an image is in none."""
    folders, _ = _first_folder(paths)
    return folders if (folders != b"").all() else np.zeros_like(folders)


def _first_folder(paths: NDArray[np.bytes_]) -> tuple[NDArray[np.bytes_], NDArray[np.bytes_]]:
    """Return the first folder of each path, b"" if there is none, and the path below it."""
    first, slash, rest = np.moveaxis(np.char.partition(paths, b"/"), 1, 0)
    inside = slash != b""
    return np.where(inside, first, b""), np.where(inside, rest, paths)
