"""Data sets: the train part trains the encoder; the labels are used by the evaluation only."""

from __future__ import annotations

import os
from pathlib import Path

from simclr_ext.options.errors import ConfigError, DataError, MissingArgumentError
from simclr_ext.trainer.config.images import ImagesConfig
from simclr_ext.trainer.data.arrays import load_arrays
from simclr_ext.trainer.data.dataset import Dataset, Part
from simclr_ext.trainer.data.digits import load_digits
from simclr_ext.trainer.data.files import image_suffixes
from simclr_ext.trainer.data.folder import list_folder
from simclr_ext.trainer.data.hub import HUB, list_hub
from simclr_ext.trainer.data.idx import is_idx_folder, load_idx
from simclr_ext.trainer.data.images import Images, LazyImages
from simclr_ext.trainer.data.listing import Listing
from simclr_ext.trainer.data.lists import is_pattern, list_file, list_image, list_pattern
from simclr_ext.trainer.data.named import NAMED, load_named
from simclr_ext.trainer.data.python import CUSTOM, from_python
from simclr_ext.trainer.data.split import NO_LABEL
from simclr_ext.trainer.data.tars import list_shards, matching_shards

__all__ = [
    "CUSTOM",
    "NO_LABEL",
    "Dataset",
    "Images",
    "LazyImages",
    "Part",
    "absolute_data",
    "find_data",
    "load_data",
    "open_data",
]

_NAMES = ("digits", *NAMED, "imagenet")


def open_data(
    data: str,
    root: str = "data",
    download: bool = False,
    images: ImagesConfig | None = None,
    workers: int = 2,
    given: object = None,
    load: bool = True,
) -> Dataset:
    """Return the data set that a configuration's `data` names.

    Args:
        data: "digits", a name that torchvision knows, "imagenet", "hf:" and the name or folder of a
            data set of Hugging Face, or the path of a folder of images, shards or IDX files, of a
            file (.npz, .npy, .tar), of a list (.txt, .csv), of an image, or a pattern of paths such
            as "photos/**/*.jpg".
        root: Folder of the named data sets and of downloads.
        download: Whether to download the data set if it is missing.
        images: How images are read and split; None: the defaults.
        workers: Threads that read images.
        given: The data set itself, if `data` is "custom": a `Dataset`, or as for `from_python`.
        load: Whether images in files may be kept in memory.

    Raises:
        DataError: There is no such data set, or it cannot be read or downloaded.
        ConfigError: A data set is given, and `data` is not "custom".
        MissingArgumentError: `data` is "custom", and nothing is given.
    """
    images = images or ImagesConfig()
    if given is not None and data != CUSTOM:
        raise ConfigError(f"data must be None for a run with its own data set, {data!r}")
    found = find_data(data, root, download) if given is None else from_python(given)
    if not images.labels or found.classes < 2:
        found = found.without_labels()
    # Before broken images are left out: what is left then is split as if they were there.
    found = found.with_split(images.test_share, images.split_seed)
    return found.dataset(images, workers, load) if isinstance(found, Listing) else found


def load_data(
    data: str,
    root: str = "data",
    download: bool = False,
    images: ImagesConfig | None = None,
    side: int | None = None,
) -> Dataset:
    """Return a data set in memory.

    Args:
        data: As for `open_data`.
        root: As for `open_data`.
        download: As for `open_data`.
        images: As for `open_data`.
        side: Side in pixels to which images of folders are resized and cropped if their sizes
            differ, or if they do not fit into memory at their own size; None: their own, at most
            224.

    Raises:
        DataError: As for `open_data`, or it does not fit.
    """
    opened = open_data(data, root, download, images)
    return opened.at(side or opened.sides[0]).in_memory()


def absolute_data(data: str) -> str:
    """Return the data set's path or pattern as an absolute one; names are unchanged."""
    name = data.removeprefix(HUB)
    if data in (*_NAMES, CUSTOM) or (name != data and not Path(name).expanduser().is_dir()):
        return data
    path = os.path.abspath(Path(name).expanduser())  # noqa: PTH100 (keeps links)
    return data[: len(data) - len(name)] + path


def find_data(data: str, root: str = "data", download: bool = False) -> Dataset | Listing:
    """Return a data set, or what a folder or a list says of its images, which are not read.

    Args:
        data: As for `open_data`.
        root: As for `open_data`.
        download: As for `open_data`.

    Raises:
        DataError: As for `open_data`.
    """
    folder = Path(root).expanduser()
    if data == CUSTOM:
        raise MissingArgumentError(
            "the run's images were given from Python: give them again, by the argument data of "
            "resume, or another data set, by the option data"
        )
    if data == "digits":
        return load_digits()
    if data in NAMED:
        return load_named(data, folder, download)
    if data == "imagenet":
        return _imagenet(folder / "imagenet", download)
    if data.startswith(HUB):
        return list_hub(data.removeprefix(HUB))
    path = Path(data).expanduser()
    if path.is_dir():
        return _folder(path)
    if is_pattern(data) and not path.exists():
        shards = matching_shards(str(path))
        return list_shards(path.stem, shards) if shards else list_pattern(str(path))
    return _file(path, data)


def _folder(path: Path) -> Dataset | Listing:
    if is_idx_folder(path):
        return load_idx(path, path.name)
    shards = sorted(path.glob("*.tar"))
    return list_shards(path.name, shards) if shards else list_folder(path)


def _file(path: Path, data: str) -> Dataset | Listing:
    suffix = path.suffix.lower()
    if suffix not in {".npz", ".npy", ".txt", ".csv", ".tar"} | image_suffixes():
        names = ", ".join(_NAMES)
        kinds = "a folder of images, an .npz, .npy or .tar file, a list (.txt, .csv), a pattern"
        gone = "" if path.exists() else "; there is no such folder or file"
        raise DataError(f"data must be {names}, or {kinds}, got {data!r}{gone}")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if suffix == ".tar":
        return list_shards(path.stem, [path])
    if suffix in (".npz", ".npy"):
        return load_arrays(path)
    return list_file(path) if suffix in (".txt", ".csv") else list_image(path)


def _imagenet(folder: Path, download: bool) -> Listing:
    if not (folder / "train").is_dir() or not (folder / "val").is_dir():
        reason = "its license does not allow a download" if download else "not found"
        raise DataError(
            f"imagenet: {reason}; expected {folder / 'train'} and {folder / 'val'}, with a folder "
            "of images per class in each"
        )
    return list_folder(folder)
