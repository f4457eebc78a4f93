"""Image files on disk: which there are below a folder, and a reader of them."""

from __future__ import annotations

import functools
import glob
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
# Pillow goes by the content, whatever a file is called. It starts Ghostscript for EPS, and for the
# others whatever handler another package has registered.
_NOT_OPENED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_LONGEST = 4096  # bytes of a name; the longest path of Linux
_DEEPEST = 200  # folders in each other
_OFTEN = 1000  # paths to one folder, through links
# Files that a system or a program leaves beside images.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}


def image_suffixes() -> frozenset[str]:
    """Return the suffixes of the files that Pillow reads here, in lower case."""
    readable = (
        suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN
    )
    return frozenset(readable) - _NOT_PICTURES


@functools.cache
def image_formats() -> tuple[str, ...]:
    """Return the formats that are opened here, by Pillow's names."""
    Image.init()
    return tuple(kind for kind in Image.ID if kind not in _NOT_OPENED)


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
        DataError: A folder cannot be read, contains itself through a link, is reached through
            links by too many paths, or is too deep below the others.
    """
    suffixes, others, example = image_suffixes(), Counter[str](), ""
    names: list[bytes] = []
    for below, files in walk(folder):
        for name in files:
            path = f"{below}/{name}" if below else name
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (speed)
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
    """Return paths as an array, in which each takes as many bytes as the longest.

    Raises:
        DataError: One is so long that the others would fill the memory.
    """
    longest = max(paths, key=len, default=b"")
    if len(longest) > _LONGEST:
        start = os.fsdecode(longest[:40])
        raise DataError(f"a name of {len(longest):,} bytes, at most {_LONGEST:,}: {start}...")
    return np.array(paths, np.bytes_) if paths else np.empty(0, "S1")


def walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder from a root downward, relative to it ("": itself), and the files in it.

    Through links, without hidden files and litter.

    Raises:
        DataError: As for `find_images`.
    """
    yield from _Walk(os.fspath(root)).below("", (), through_link=False)


def matches(pattern: str) -> list[str]:
    """Return the paths that match a pattern, sorted; ** stands for any folders.

    Raises:
        DataError: As for `find_images`: the recursive patterns of glob follow links without an end.
    """
    parts = pattern.split("/")
    if "**" not in parts:
        return sorted(glob.iglob(pattern))  # noqa: PTH207 (from any root)
    place = parts.index("**")
    before = "/".join(parts[:place]) or ("/" if place else ".")
    after = parts[place + 1 :] or ["*"]
    found: set[str] = set()
    for folder in filter(os.path.isdir, glob.iglob(before)):  # noqa: PTH207
        for below, _ in walk(Path(folder)):
            inner = glob.escape(os.path.join(folder, below).rstrip("/"))  # noqa: PTH118
            found.update(matches("/".join([inner, *after])))
    return sorted(found)


class _Walk:
    """A walk through the folders below a root, which ends whatever links there are."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._linked: Counter[tuple[int, int]] = Counter()  # times that links led to a folder

    def below(
        self, path: str, parents: tuple[tuple[int, int], ...], through_link: bool
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield a folder with its files, and then those below it."""
        folder = os.path.join(self._root, path)  # noqa: PTH118 (speed)
        files: list[str] = []
        folders: list[tuple[str, bool]] = []
        try:
            status = os.stat(folder)  # noqa: PTH116 (speed)
            parents = self._entered(folder, (status.st_dev, status.st_ino), parents, through_link)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_litter(entry.name):
                        continue
                    if entry.is_dir():
                        folders.append((entry.name, entry.is_symlink()))
                    else:
                        files.append(entry.name)
        except OSError as error:
            raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
        yield path, files
        for name, link in folders:
            yield from self.below(f"{path}/{name}" if path else name, parents, through_link or link)

    def _entered(
        self,
        folder: str,
        identity: tuple[int, int],
        parents: tuple[tuple[int, int], ...],
        through_link: bool,
    ) -> tuple[tuple[int, int], ...]:
        """Return the parents of what is in a folder."""
        if identity in parents:
            raise DataError(f"{folder}: a link to a folder that contains it")
        if len(parents) == _DEEPEST:
            raise DataError(f"{folder}: more than {_DEEPEST} folders in each other")
        if through_link:
            self._linked[identity] += 1
            if self._linked[identity] > _OFTEN:
                raise DataError(f"{folder}: links lead to it by more than {_OFTEN:,} paths")
        return (*parents, identity)
