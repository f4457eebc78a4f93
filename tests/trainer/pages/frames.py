"""Measures how smoothly map.html moves: its frames per second in headless Chromium.

    python -m tests.trainer.pages.frames [map.html]

Drags the map and turns the wheel; each event waits until the last one was handled. Without a file,
10,000 random points in ten classes.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from simclr_ext.trainer.pages.map import ImageMap, map_page
from tests.browser import Page, chromium

POINTS = 10_000
EVENTS = 240
CENTER = (480.0, 440.0)  # of the map, in a window of 1280 x 800
WATCH = """stop = false; times = [];
(function f(now) { times.push(now); stop || requestAnimationFrame(f) })"""


def random_map() -> ImageMap:
    """Return a map of 10,000 images, whose neighbors and pictures are anything."""
    random = np.random.default_rng(0)
    classes = np.arange(POINTS) % 10
    centers = random.normal(0, 3, (10, 2))
    return ImageMap(
        title="Random points",
        note="",
        positions=(centers[classes] + random.normal(size=(POINTS, 2))).astype(np.float32),
        thumbnails=torch.randint(256, (POINTS, 3, 32, 32), dtype=torch.uint8),
        names=[f"image {number}" for number in range(POINTS)],
        neighbors=random.integers(POINTS, size=(POINTS, 8)),
        classes=classes,
        class_names=[f"class {number}" for number in range(10)],
        labels=10,
    )


def drag(page: Page) -> None:
    """Drag the map in circles."""
    x, y = CENTER
    angles = [2 * math.pi * event / 60 for event in range(EVENTS)]
    page.drag(*((x + 150 * math.sin(a), y + 150 * math.cos(a)) for a in angles))


def turn(page: Page) -> None:
    """Zoom in and out."""
    for event in range(EVENTS):
        page.wheel(*CENTER, -20 if event % 120 < 60 else 20)


def report(page: Page, what: str, act: Callable[[Page], None]) -> None:
    """Print the frames per second while something is done."""
    page.run(f"{WATCH}(performance.now())")
    act(page)
    times = page.run("stop = true, times")
    gaps = np.array([after - before for before, after in itertools.pairwise(times)])
    rate, median, slow = 1000 / gaps.mean(), np.median(gaps), np.quantile(gaps, 0.95)
    print(f"{what}: {rate:.0f} frames/s; a frame takes {median:.1f} ms, of 95 % at most {slow:.1f}")


def main() -> None:
    """Measure a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="?")
    path = parser.parse_args().page
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if path is None:
            path = Path(folder) / "map.html"
            path.write_text(map_page(random_map()), encoding="utf-8")
        with chromium(Path(folder) / "profile") as page:
            page.open(path)
            for what, act in (("drag", drag), ("wheel", turn)):
                report(page, what, act)


if __name__ == "__main__":
    main()
