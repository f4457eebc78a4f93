"""Data sets: the train part trains the encoder; the labels are used by the evaluation only."""

from __future__ import annotations

from pathlib import Path

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.dataset import Dataset
from simclr_ext.trainer.data.digits import load_digits
from simclr_ext.trainer.data.files import ImageFiles, Images
from simclr_ext.trainer.data.folder import open_folder
from simclr_ext.trainer.data.idx import is_idx_folder, load_idx
from simclr_ext.trainer.data.named import NAMED, load_named
from simclr_ext.trainer.data.npz import load_npz
from simclr_ext.trainer.data.pixels import WHITE, Color

__all__ = ["Dataset", "ImageFiles", "Images", "load_data", "open_data"]


def open_data(
    data: str, root: str = "data", download: bool = False, background: Color = WHITE
) -> Dataset:
    """Return the data set that a configuration's `data` names.

    Args:
        data: "digits", a name that torchvision knows, "imagenet", or the path of an .npz file, of
            a folder with train/ and test/, or of a folder of IDX files.
        root: Folder of the named data sets and of downloads.
        download: Whether to download the data set if it is missing.
        background: Color behind transparent pixels of image files.

    Raises:
        DataError: There is no such data set, or it cannot be read or downloaded.
    """
    if data == "digits":
        return load_digits()
    if data in NAMED:
        return load_named(data, Path(root).expanduser(), download)
    if data == "imagenet":
        return _imagenet(Path(root).expanduser() / "imagenet", download, background)
    path = Path(data).expanduser()
    if path.is_dir():
        if is_idx_folder(path):
            return load_idx(path, path.name)
        return open_folder(path, path.name, background)
    if path.suffix == ".npz":
        return load_npz(path)
    names = ", ".join(("digits", *NAMED, "imagenet"))
    raise DataError(f"data must be {names}, the path of an .npz file or of a folder, got {data!r}")


def load_data(
    data: str, root: str = "data", download: bool = False, side: int | None = None
) -> Dataset:
    """Return a data set in memory.

    Args:
        data: As for `open_data`.
        root: As for `open_data`.
        download: As for `open_data`.
        side: Side in pixels to which images of folders are resized and cropped if their sizes
            differ, or if they do not fit into memory at their own size; None: their own, at most
            224.

    Raises:
        DataError: As for `open_data`, or it does not fit.
    """
    opened = open_data(data, root, download)
    return opened.at(side or opened.sides[0]).in_memory()


def _imagenet(folder: Path, download: bool, background: Color) -> Dataset:
    if not (folder / "train").is_dir() or not (folder / "val").is_dir():
        reason = "its license does not allow a download" if download else "not found"
        raise DataError(
            f"imagenet: {reason}; expected {folder / 'train'} and {folder / 'val'}, with a folder "
            "of images per class in each"
        )
    return open_folder(folder, "imagenet", background)
