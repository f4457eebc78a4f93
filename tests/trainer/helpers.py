"""Small data sets on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_folder(
    root: Path,
    sizes: Sequence[tuple[int, int]],
    per_class: int = 6,
    test: str = "test",
    classes: Sequence[str] = ("cat", "dog"),
) -> None:
    """Write train/ and a test folder with images of the classes, of the sizes in turn."""
    random = np.random.default_rng(0)
    for part in ("train", test):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for index in range(per_class):
                width, height = sizes[index % len(sizes)]
                pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
