"""Shards of WebDataset: tar files in which files of one name belong together.

An image and a file NAME.cls with its label, an integer or a name, make a sample. The shards are
searched once; images are then read in any order, so epochs are shuffled over all shards.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.files import image_suffixes, is_litter, matches, to_array
from simclr_ext.trainer.data.listing import Listing, numbered

_LABEL = ".cls"
_MOST = 1024  # bytes of a label
_TEST = re.compile(r"(^|[-_.])(test|val|validation)([-_.]|$)")  # in a shard's name


@dataclass(frozen=True, eq=False)
class TarReader:
    """Images in tar files.

    Attributes:
        shards: Paths of the tar files.
        names: [n] bytes: names of the images in their shards.
        shard: [n]: the shard of each.
        offset: [n]: where it begins, in bytes.
        size: [n]: its length in bytes.
        states: Size and modification time in ns of each tar file when it was searched.
    """

    shards: tuple[str, ...]
    names: NDArray[np.bytes_]
    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    states: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def source(self, index: int) -> BytesIO:
        """Return the bytes of an image file.

        Raises:
            DataError: The tar file has changed, so that other bytes may be in this place.
        """
        shard = self.shard[index]
        with Path(self.shards[shard]).open("rb") as file:
            if _state(os.fstat(file.fileno())) != self.states[shard]:
                raise DataError(f"{self.shards[shard]}: has changed since it was searched")
            file.seek(int(self.offset[index]))
            return BytesIO(file.read(int(self.size[index])))

    def name(self, index: int) -> str:
        """Return the path of the shard, and the name in it."""
        return f"{self.shards[self.shard[index]]}:{os.fsdecode(self.names[index])}"

    def version(self, index: int) -> tuple[str, int, int]:
        """Return the name, its place, and the shard's modification time in ns."""
        path = Path(self.shards[self.shard[index]])
        return self.name(index), int(self.offset[index]), path.stat().st_mtime_ns


def list_shards(name: str, paths: Sequence[Path]) -> Listing:
    """Return the images in tar files; those of shards named "test" or "val" are test images.

    Raises:
        DataError: A file is not an uncompressed tar file, or there are no images in it.
    """
    names: list[bytes] = []
    places: list[tuple[int, int, int]] = []
    labels: list[bytes] = []
    states: list[tuple[int, int]] = []
    for shard, path in enumerate(paths):
        found, classes, state = _read(path)
        states.append(state)
        if not found:
            raise DataError(f"{path}: no images in it")
        for member in found:
            names.append(os.fsencode(member.name))
            places.append((shard, member.offset_data, member.size))
            labels.append(classes.get(_key(member.name), b""))
    shards = np.array(places, np.int64)
    shard_of, offset, size = np.moveaxis(shards, 1, 0)
    names_of = to_array(names)
    reader = TarReader(tuple(map(str, paths)), names_of, shard_of, offset, size, tuple(states))
    stems = np.array([os.fsencode(path.stem) for path in paths])
    ids = np.char.add(np.char.add(stems[reader.shard], b"/"), reader.names)
    test = np.array([_TEST.search(path.stem) is not None for path in paths])[reader.shard]
    return Listing(name, reader, ids, *numbered(to_array(labels)), test)


def matching_shards(pattern: str) -> list[Path]:
    """Return the tar files that match a pattern, sorted."""
    return [path for path in map(Path, matches(pattern)) if path.suffix.lower() == ".tar"]


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _read(path: Path) -> tuple[list[tarfile.TarInfo], dict[str, bytes], tuple[int, int]]:
    """Return the images of a tar file, the labels of its keys, and the file's state."""
    suffixes, images, labels = image_suffixes(), [], {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            end = 0
            for member in archive:
                if member.offset_data <= end or member.size < 0:  # tarfile would go on for ever
                    raise tarfile.ReadError("members overlap")
                end = member.offset_data
                name = os.path.basename(member.name)  # noqa: PTH119 (of the archive)
                # The bytes of a sparse member are not one after another in the archive.
                if not member.isfile() or member.issparse() or is_litter(name):
                    continue
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (of the archive)
                if suffix in suffixes:
                    images.append(member)
                elif suffix == _LABEL and member.size <= _MOST:
                    label = archive.extractfile(member)
                    labels[_key(member.name)] = b"" if label is None else label.read().strip()
            state = _state(os.fstat(file.fileno()))
    except Exception as error:  # reading a damaged file may raise any exception
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: not a readable, uncompressed tar file ({reason})") from error
    return images, labels, state


def _key(name: str) -> str:
    """Return what the files of a sample share: the path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]
