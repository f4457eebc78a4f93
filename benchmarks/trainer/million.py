"""Time and memory of opening a folder of a million image files, which are links to two.

python -m benchmarks.trainer.million --files 1000000
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from simclr_ext.trainer.data import open_data

_CLASSES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        make(folder, files)
        before, start = peak(), time.perf_counter()
        data = open_data(str(folder))
        seconds = time.perf_counter() - start
        assert len(data.train) + len(data.test) == files
        assert len(data.class_names) == _CLASSES
    print(f"{data.summary}: {seconds:.1f} s, peak {before} -> {peak()} MiB")


def make(folder: Path, files: int) -> None:
    """Write links to two images of different sizes, in folders of as many classes."""
    images = [folder.parent / f"{height}.png" for height in (32, 40)]
    for image, height in zip(images, (32, 40), strict=True):
        Image.fromarray(np.zeros((height, 48, 3), np.uint8)).save(image)
    for number in range(_CLASSES):
        (folder / f"class{number:03}").mkdir(parents=True)
    for row in range(files):
        link = folder / f"class{row % _CLASSES:03}" / f"{row:07}.png"
        link.symlink_to(images[row % 2])


def peak() -> int:
    """Return the largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
