"""Data sets from Python: any map-style data set of PyTorch."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.dataset import Dataset, Part
from simclr_ext.trainer.data.listing import Listing
from simclr_ext.trainer.data.split import NO_LABEL
from simclr_ext.trainer.progress import say

CUSTOM = "custom"  # `data` of a configuration whose images are given from Python
_GREATEST = 2**63 - 1  # label


class PythonReader:
    """The images of a map-style data set.

    Args:
        items: Images, or tuples that begin with one: PIL images, or uint8 tensors [C, H, W] with
            C = 1 or 3.
    """

    def __init__(self, items: ConcatDataset[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def source(self, index: int) -> Image.Image:
        """Return an image.

        Raises:
            DataError: It is something else.
        """
        image = _image(self._items[index])
        if isinstance(image, Image.Image):
            return image
        shape = list(image.shape)
        if image.dtype != torch.uint8 or len(shape) != 3 or shape[0] not in (1, 3):
            found = f"{image.dtype} {shape}"
            raise DataError(
                f"{self.name(index)} must be uint8 [C, H, W] with C = 1 or 3, got {found}"
            )
        return Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())

    def name(self, index: int) -> str:
        """Return the row."""
        return f"data[{index}]"

    def version(self, index: int) -> tuple[object, ...]:
        """Return a hash of the image: nothing else tells whether it has changed."""
        image = self.source(index)
        return image.size, image.mode, zlib.crc32(image.tobytes())


def from_python(data: Any) -> Listing | Dataset:
    """Return the data set in map-style data sets.

    Args:
        data: A `Dataset`; or a map-style data set of training images; or a tuple of two, the second
            of test images. Items are PIL images or uint8 tensors [C, H, W], or tuples (image,
            label). Tensors of one shape are kept in memory, with any C. Labels are read from
            `targets` or `labels` if there are such lists, otherwise from every item; names of
            classes from `classes`.

    Raises:
        DataError: There are more than two parts, one has no length or no images, or its items are
            something else.
    """
    if isinstance(data, Dataset):
        return data
    parts = data if isinstance(data, tuple) else (data,)
    if len(parts) not in (1, 2):
        raise DataError(f"data must be a map-style data set, or two, got {len(parts)}")
    for part in parts:
        if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
            raise DataError(f"data must be a map-style data set, or two, got {type(part).__name__}")
        if len(part) == 0:
            raise DataError(f"data: a {type(part).__name__} without images")
    name = type(parts[0]).__name__
    labels = np.concatenate([_labels(part) for part in parts])
    values = np.unique(labels[labels != NO_LABEL])
    given = getattr(parts[0], "classes", None)
    names = tuple(map(str, values if given is None else given))
    if given is None:
        labels[labels != NO_LABEL] = np.searchsorted(values, labels[labels != NO_LABEL])
    elif len(values) > 0 and values[-1] >= len(names):
        raise DataError(f"data: {len(names)} classes for labels up to {values[-1]}")
    test = np.arange(len(labels)) >= len(parts[0])
    every: ConcatDataset[Any] = ConcatDataset(parts)
    first = _image(every[0])
    if isinstance(first, Tensor) and first.shape[:1] not in ((1,), (3,)):
        return _stacked(name, every, labels, names, test)
    ids = np.concatenate([np.arange(len(part)) for part in parts]).astype(np.bytes_)
    return Listing(name, PythonReader(every), ids, labels, names, test)


def _stacked(
    name: str,
    every: ConcatDataset[Any],
    labels: NDArray[np.int64],
    names: tuple[str, ...],
    test: NDArray[np.bool_],
) -> Dataset:
    """Return tensors of one shape, with any C, in memory."""
    images = [_image(every[index]) for index in range(len(every))]
    first, rule = images[0], f"{name}: images must be uint8 [C, H, W] of one shape"
    if first.dtype != torch.uint8 or first.ndim != 3:
        raise DataError(f"{rule}, got {_kind(first)}")
    for row, image in enumerate(images):
        if _kind(image) != _kind(first):
            raise DataError(f"{rule}: data[0] is {_kind(first)}, and data[{row}] is {_kind(image)}")
    part = Part.of(torch.stack(images), torch.from_numpy(labels))
    train, tests = (part.take(torch.from_numpy(np.flatnonzero(rows))) for rows in (~test, test))
    return Dataset(name, train, tests, names)


def _labels(part: Any) -> NDArray[np.int64]:
    """Return the labels of a data set, [n]; NO_LABEL: none.

    Raises:
        DataError: A label is not an integer from 0.
    """
    for attribute in ("targets", "labels"):
        found: Any = getattr(part, attribute, None)
        if hasattr(found, "__len__") and len(found) == len(part):
            labels = np.asarray(found)
            break
    else:
        if not isinstance(part[0], tuple | list):
            return np.full(len(part), NO_LABEL)
        say(f"reading the labels of every item of {type(part).__name__}, which has no `targets`")
        labels = np.asarray([part[index][1] for index in range(len(part))])
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"data: labels must be integers from 0, got {labels.dtype} {labels.shape}")
    if not NO_LABEL <= int(labels.min()) <= int(labels.max()) <= _GREATEST:
        found = f"{labels.min()} to {labels.max()}"
        raise DataError(f"data: labels must be integers from 0 to {_GREATEST}, got {found}")
    return labels.astype(np.int64)


def _image(item: Any) -> Any:
    image = item[0] if isinstance(item, tuple | list) else item
    if not isinstance(image, Image.Image | Tensor):
        raise DataError(f"data: images must be PIL images or tensors, got {type(image).__name__}")
    return image


def _kind(image: Image.Image | Tensor) -> str:
    if isinstance(image, Tensor):
        return f"{image.dtype} {list(image.shape)}"
    return "a PIL image"
