"""Image files on disk: which there are below a folder, and a reader of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simclr_ext.options.errors import DataError

# Pillow reads these by starting another program (EPS), or without pixels of their own.
_NOT_PICTURES = {
    ".eps",
    ".ps",
    ".fits",
    ".grib",
    ".h5",
    ".hdf",
    ".bufr",
    ".wmf",
    ".emf",
    ".mpg",
    ".mpeg",
}
# Files that a system or a program leaves beside images.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}


def image_suffixes() -> frozenset[str]:
    """Return the suffixes of the files that Pillow reads here, in lower case."""
    readable = (
        suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN
    )
    return frozenset(readable) - _NOT_PICTURES


@dataclass(frozen=True, eq=False)
class FileReader:
    """Image files, decoded by Pillow.

    Attributes:
        root: Folder to which the paths are relative.
        paths: [n] bytes: an array takes a tenth of the memory of as many Path objects.
    """

    root: str
    paths: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.paths)

    def source(self, index: int) -> str:
        """Return a file's path."""
        return self.name(index)

    def name(self, index: int) -> str:
        """Return a file's path."""
        return os.path.join(self.root, os.fsdecode(self.paths[index]))  # noqa: PTH118 (speed)

    def version(self, index: int) -> tuple[str, int, int]:
        """Return a file's path, size in bytes and modification time in ns."""
        path = self.name(index)
        status = os.stat(path)  # noqa: PTH116 (speed)
        return path, status.st_size, status.st_mtime_ns


@dataclass
class Found:
    """The files below a folder.

    Attributes:
        paths: Image files, relative to the folder, sorted.
        others: Number of other files by suffix.
        example: The first of the others.
    """

    paths: NDArray[np.bytes_]
    others: Counter[str] = field(default_factory=Counter)
    example: str = ""

    @property
    def left_out(self) -> str | None:
        """A sentence on the files that are not images; None: there are none."""
        if not self.others:
            return None
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in self.others.most_common(5))
        more = ", ..." if len(self.others) > 5 else ""
        return f"left out, since they are not images: {kinds}{more}; such as {self.example}"


def find_images(folder: Path) -> Found:
    """Return the image files below a folder, through links, without hidden files and litter.

    Raises:
        DataError: A folder cannot be read, or contains itself through a link.
    """
    suffixes, others, example = image_suffixes(), Counter[str](), ""
    names: list[bytes] = []
    for path in _walk(os.fspath(folder), "", ()):
        suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 (speed)
        if suffix in suffixes:
            names.append(os.fsencode(path))
        else:
            others[suffix or "without a suffix"] += 1
            example = example or path
    names.sort()
    return Found(to_array(names), others, example)


def is_litter(name: str) -> bool:
    """Return whether a file or folder is hidden, or left beside images by another program."""
    return name.startswith(".") or name.lower() in _LITTER


def to_array(paths: Sequence[bytes]) -> NDArray[np.bytes_]:
    """Return paths as an array."""
    return np.array(paths, np.bytes_) if paths else np.empty(0, "S1")


def _walk(root: str, below: str, parents: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the paths of all files below root/below, relative to root."""
    folder = os.path.join(root, below)  # noqa: PTH118 (speed)
    try:
        status = os.stat(folder)  # noqa: PTH116 (speed)
        if (status.st_dev, status.st_ino) in parents:
            raise DataError(f"{folder}: a link to a folder that contains it")
        parents = (*parents, (status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_litter(entry.name):
                    continue
                path = f"{below}/{entry.name}" if below else entry.name
                if entry.is_dir():
                    yield from _walk(root, path, parents)
                else:
                    yield path
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
