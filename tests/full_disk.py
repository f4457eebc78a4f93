"""Trains on a disk that fills, frees it, resumes, and compares with a run that had space.

    python -m tests.full_disk                # at every size: five minutes on one core
    python -m tests.full_disk --every 20     # as in the tests

The system refuses to write beyond the first k bytes of any file, as a full disk does, with k at the
start, in the middle and just below the end of each file that a run writes. The run ends with one
sentence that says how to go on, or finishes without a picture; resumed with space, it has every
file of a run that never lacked any.
"""

from __future__ import annotations

import argparse
import functools
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from simclr_ext.options.errors import StorageError
from tests.unharmed import Kind, run, study, training

_FULL = 3  # exit code of a child that says so


def main() -> int:
    """Try each size; return the number of runs that did not end as they should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="take one of so many sizes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        failed = 0
        for name, kind in {"train": training, "study": study}.items():
            root = Path(folder) / name
            root.mkdir()
            print(name, end=": ")
            failed += fill(kind(root), options.every)
        return failed


def fill(kind: Kind, every: int = 1) -> int:
    """Run one kind with each limit; print and return how many did not end as they should."""
    whole = kind.root / "whole"
    status, text = run(lambda: kind.start(whole))
    if status != 0:
        sys.exit(text)
    limits = sorted(set(sizes(whole)))[::every]
    full = failed = 0
    for limit in limits:
        folder = kind.root / f"run {limit}"
        status, text = run(functools.partial(limited, kind, folder, limit))
        full += status == _FULL
        wrong = [] if status in (0, _FULL) else [f"exit code {status}: {text[-2000:]}"]
        status, text = run(functools.partial(kind.go_on, folder))
        wrong += [text[-2000:]] if status else [*kind.differences(folder, whole)]
        failed += bool(wrong)
        for line in wrong:
            print(f"{limit} bytes: {line}")
    print(f"{len(limits)} sizes, {full} ended for space, {failed} not as if unharmed")
    return failed


def sizes(folder: Path) -> Iterator[int]:
    """Yield after how many bytes the files of a run are cut: at their start, middle and end."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 1:
            size = path.stat().st_size
            yield from (0, size // 2, size - 1)


def limited(kind: Kind, folder: Path, limit: int) -> None:
    """Start a run that may write so many bytes to a file, and exit if that is not enough."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        kind.start(folder)
    except StorageError as error:
        if "cannot be written: File too large" not in str(error):
            raise
        sys.exit(_FULL)


if __name__ == "__main__":
    sys.exit(main())
