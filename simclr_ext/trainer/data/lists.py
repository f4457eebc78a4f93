"""Lists of image files: a text file, a CSV file, a glob pattern, or a single image.

A text file has a path or a pattern per line. A CSV file has a header with the column `path`, and
optionally `label` (empty: none) and `split` ("train", "test", or empty: not split). Paths are
relative to the list's folder.
"""

from __future__ import annotations

import csv
import glob
import io
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.files import (
    FileReader,
    image_suffixes,
    is_litter,
    matches,
    to_array,
)
from simclr_ext.trainer.data.listing import Listing, numbered

_SPLITS = {"": False, "train": False, "test": True, "val": True, "validation": True}


def is_pattern(path: str) -> bool:
    """Return whether a path is a glob pattern, such as "photos/**/*.jpg"."""
    return glob.has_magic(path)


def list_pattern(pattern: str) -> Listing:
    """Return the image files that match a pattern, in which ** stands for any folders.

    Raises:
        DataError: There are none.
    """
    parts = Path(pattern).parts
    root = Path(*itertools.takewhile(lambda part: not is_pattern(part), parts))
    below = str(Path(*parts[len(root.parts) :]))
    return _listing(root.resolve().name, root, _matches(root, below))


def list_image(path: Path) -> Listing:
    """Return a single image."""
    return _listing(path.stem, path.parent, [path.name])


def list_file(path: Path) -> Listing:
    """Return the images that a text or CSV file lists.

    Raises:
        DataError: The list cannot be read, is empty, or has other columns or splits.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable ({error})") from error
    if "\0" in text:
        raise DataError(f"{path}: not readable (a zero byte in it)")
    if path.suffix.lower() == ".csv":
        try:
            rows = list(_rows(path, text))
        except csv.Error as error:  # such as a field of more than 128 KiB
            raise DataError(f"{path}: not readable ({error})") from error
        paths, classes, splits = (list(map(itemgetter(i), rows)) for i in range(3))
        return _listing(path.stem, path.parent, paths, classes, splits)
    paths = []
    for line in filter(None, map(str.strip, text.splitlines())):
        literal = not is_pattern(line) or os.path.exists(path.parent / line)  # noqa: PTH110
        paths += [line] if literal else _matches(path.parent, line)
    return _listing(path.stem, path.parent, paths)


def _rows(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield path, class and split of the images in a CSV file."""
    reader = csv.DictReader(io.StringIO(text), restkey="more", restval="")
    columns = reader.fieldnames or []
    if "path" not in columns or not {*columns} <= {"path", "label", "split"}:
        expected = "expected path, and optionally label and split"
        raise DataError(f"{path}: the columns are {', '.join(columns) or 'missing'}; {expected}")
    for row in reader:
        line, split = reader.line_num, row.get("split", "")
        if row.get("more") or not row["path"]:
            raise DataError(f"{path}, line {line}: expected {', '.join(columns)}")
        if split not in _SPLITS:
            raise DataError(
                f"{path}, line {line}: split must be train, test or empty, got {split!r}"
            )
        yield row["path"], row.get("label", ""), split


def _matches(root: Path, pattern: str) -> list[str]:
    """Return the image files that match a pattern, relative to a folder, sorted.

    Raises:
        DataError: There are none, or as for `matches`.
    """
    suffixes = image_suffixes()
    found = [
        os.path.relpath(match, root)
        for match in matches(os.path.join(glob.escape(os.fspath(root)), pattern))  # noqa: PTH118
        if Path(match).suffix.lower() in suffixes and not is_litter(Path(match).name)
    ]
    if not found:
        raise DataError(f"{root / pattern}: no images match")
    return found


def _listing(
    name: str,
    root: Path,
    paths: Sequence[str],
    classes: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
) -> Listing:
    if not paths:
        raise DataError(f"{name}: the list has no images")
    if len(set(paths)) < len(paths):
        (twice, _), *_ = Counter(paths).most_common(1)
        raise DataError(f"{name}: the list has {twice} twice")
    ids = to_array(list(map(os.fsencode, paths)))  # first: it refuses what is no path
    gone = [path for path in paths if not (root / path).is_file()]
    if gone:
        more = f", and {len(gone) - 1:,} more" if len(gone) > 1 else ""
        raise DataError(f"{root / gone[0]}: no such file{more}")
    labels, names = numbered(to_array(list(map(os.fsencode, classes or [""] * len(paths)))))
    test = np.array([_SPLITS[split] for split in splits or [""] * len(paths)])
    return Listing(name, FileReader(str(root), ids), ids, labels, names, test)
