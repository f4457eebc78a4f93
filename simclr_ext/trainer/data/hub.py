"""Data sets of Hugging Face: by name, or from a folder that `save_to_disk` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simclr_ext.options.errors import DataError
from simclr_ext.options.extras import require
from simclr_ext.trainer.data.listing import Listing
from simclr_ext.trainer.data.split import NO_LABEL

HUB = "hf:"  # in front of the name or the folder
_TESTS = ("test", "validation", "valid")  # the first of them that is there


@dataclass(frozen=True, eq=False)
class HubReader:
    """Encoded images in a column of data sets.

    Attributes:
        parts: Data sets of the library `datasets`, one after another, not decoded.
        column: Name of the column of images.
    """

    parts: tuple[Any, ...]
    column: str

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def source(self, index: int) -> str | BytesIO:
        """Return an image file's bytes, or its path."""
        part, row = self._place(index)
        image = part[row][self.column]
        if image is None:
            raise OSError("the row has no image")
        path: str = image["path"]
        return path if image["bytes"] is None else BytesIO(image["bytes"])

    def name(self, index: int) -> str:
        """Return the split and the row."""
        part, row = self._place(index)
        return f"{part.split}[{row}]"

    def version(self, index: int) -> tuple[object, ...]:
        """Return the fingerprint of the data set, which changes with its content, and the row."""
        part, row = self._place(index)
        return part._fingerprint, row

    def _place(self, index: int) -> tuple[Any, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)


def list_hub(name: str) -> Listing:
    """Return the images of a data set: its split "train", and "test" or "validation" if there is.

    Args:
        name: Folder that `save_to_disk` wrote, or a name of the hub, which `datasets` downloads
            unless it is in its cache; without "hf:".

    Raises:
        MissingExtraError: The package `datasets` is not installed.
        DataError: It cannot be loaded, or has no column of images.
    """
    require("datasets", "datasets", f"data: {HUB}{name}")
    import datasets

    try:
        folder = Path(name).expanduser()
        loaded = (
            datasets.load_from_disk(str(folder)) if folder.is_dir() else datasets.load_dataset(name)
        )
    except Exception as error:  # of any kind, by the scripts and servers of the hub
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"{HUB}{name}: cannot be loaded ({reason})") from error
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    if "train" not in splits:
        raise DataError(f"{HUB}{name}: no split train; there are {', '.join(splits)}")
    train = splits["train"]
    tests = [splits[split] for split in _TESTS if split in splits][:1]
    column = _column(name, train, datasets.Image)
    raw = datasets.Image(decode=False)
    parts = tuple(part.cast_column(column, raw) for part in (train, *tests))
    labels, names = _labels(parts, datasets.ClassLabel)
    if len(labels) > 0 and not NO_LABEL <= labels.min() <= labels.max() < max(1, len(names)):
        found = f"from {labels.min()} to {labels.max()}"
        raise DataError(f"{HUB}{name}: {len(names)} classes for labels {found}")
    test = np.arange(len(labels)) >= len(train)
    ids = np.concatenate([np.arange(len(part)) for part in parts]).astype(np.bytes_)
    return Listing(Path(name).name, HubReader(parts, column), ids, labels, names, test)


def _column(name: str, part: Any, kind: type) -> str:
    """Return the column of images: the first."""
    columns = [column for column, feature in part.features.items() if isinstance(feature, kind)]
    if not columns:
        raise DataError(f"{HUB}{name}: no column of images; there are {', '.join(part.features)}")
    return str(columns[0])


def _labels(parts: tuple[Any, ...], kind: type) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the labels [n], of the first column of classes, and the classes' names."""
    features = parts[0].features.items()
    columns = [column for column, feature in features if isinstance(feature, kind)]
    if not columns:
        return np.full(sum(map(len, parts)), NO_LABEL), ()
    values = [value for part in parts for value in part.with_format(None)[columns[0]]]
    labels = np.array([NO_LABEL if value is None else value for value in values], np.int64)
    return labels, tuple(parts[0].features[columns[0]].names)
