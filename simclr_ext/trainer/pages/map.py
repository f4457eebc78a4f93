"""map.html: the map of images, with thumbnails, search and nearest neighbors, in one file."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simclr_ext.trainer.pages.thumbnails import MOST, Sheets, make_sheets
from simclr_ext.trainer.probes.tsne import COLORS

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class ImageMap:
    """Images, their places on a map, and what is said about them.

    Attributes:
        title: Heading of the page.
        note: A sentence or more below it: what is shown, and how it was computed.
        positions: Place of each image, [n, 2], n > 0, in any unit, the second axis upward.
        thumbnails: [n, C, h, w] uint8, C = 1 or 3; see `pages/thumbnails.py`.
        names: What each is called and found by, [n].
        neighbors: Rows of the images nearest to each, nearest first, [n, k].
        classes: Class of each, [n], from 0.
        class_names: Name of each class.
        labels: How many of the classes, the first, are labels, so that neighbors of the same class
            are marked; the others are clusters, or the images without a label.
    """

    title: str
    note: str
    positions: NDArray[np.float32]
    thumbnails: Tensor
    names: Sequence[str]
    neighbors: NDArray[np.int64]
    classes: NDArray[np.int64]
    class_names: Sequence[str]
    labels: int


def map_page(images: ImageMap) -> str:
    """Return the page: one file, which asks nothing of the network."""
    sheets = make_sheets(images.thumbnails)
    return Template(_part("map.html")).substitute(
        title=html.escape(images.title),
        note=html.escape(images.note),
        groups="Classes" if images.labels else "Clusters",
        style=_part("map.css"),
        sheets=_sheet_rules(sheets, images.thumbnails),
        data=_embedded(_data(images, sheets)),
        script="\n".join(map(_part, ("markers.js", "canvas.js", "page.js"))),
    )


def _part(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _sheet_rules(sheets: Sheets, thumbnails: Tensor) -> str:
    """Return the CSS of the sheets; pixels of images that were not made smaller stay visible."""
    height, width = thumbnails.shape[2:]
    rendering = "auto" if max(height, width) == MOST else "pixelated"
    size = f"--columns: {sheets.columns}; --rows: {sheets.rows}"
    look = f":root {{ --aspect: {width} / {height}; {size}; --rendering: {rendering} }}"
    rules = (
        f".sheet{number} {{ background-image: url({url}) }}"
        for number, url in enumerate(sheets.urls)
    )
    return "\n".join([look, *rules])


def _data(images: ImageMap, sheets: Sheets) -> dict[str, object]:
    """Return what pages/page.js reads."""
    return {
        "positions": _unit_square(images.positions).round(5).flatten().tolist(),
        "names": list(images.names),
        "neighbors": images.neighbors.tolist(),
        "classes": images.classes.tolist(),
        "classNames": list(images.class_names),
        "labels": images.labels,
        "colors": COLORS,
        "sheet": {"columns": sheets.columns, "rows": sheets.rows},
    }


def _unit_square(positions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return positions [n, 2] in [0, 1], at the same scale on both axes, the second downward."""
    points = positions.astype(np.float64) * (1, -1)
    low, high = points.min(axis=0), points.max(axis=0)
    longer = float((high - low).max()) or 1.0  # all in one place
    unit: NDArray[np.float64] = (points - (low + high) / 2) / longer + 0.5
    return unit


def _embedded(value: object) -> str:
    """Return a value as JSON that cannot end the element in which it stands."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
