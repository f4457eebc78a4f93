"""The style of the pictures: readable at half size, and without relying on color alone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simclr_ext.trainer.atomic import replacing, write_text
from simclr_ext.trainer.probes.scores import Accuracy

# Okabe and Ito's colors, https://jfly.uni-koeln.de/color/, without the yellow, which is too light
# for lines on white, and with black last.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GRAY = "#777777"

_DPI = 160
_STYLE: dict[Any, Any] = {  # matplotlib types the keys as Literals
    "axes.grid": True,
    "axes.labelsize": 13,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 14,
    "figure.constrained_layout.use": True,
    "font.size": 12,
    "grid.alpha": 0.3,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 7,
    "svg.hashsalt": "simclr-ext",  # otherwise ids are random
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Set the style of pictures that are drawn and saved in the block."""
    with matplotlib.rc_context(_STYLE):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a picture as `path` with the suffixes .png and .svg."""
    with replacing(path.with_suffix(".png")) as picture:
        figure.savefig(picture, dpi=_DPI)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    write_text(path.with_suffix(".svg"), _steady(file.getvalue()))


def _steady(svg: str) -> str:
    """Return a picture without rounding differences, so that equal pictures are equal files.

    The last digits of coordinates differ from one layout to the next. Matplotlib's ids are hashes
    of them, and are replaced by numbers here; a negative zero loses its sign.
    """
    found = dict.fromkeys(re.findall(r'\bid="([a-z][0-9a-f]{10})"', svg))
    numbers = {name: f"{name[0]}{number}" for number, name in enumerate(found)}

    def replace(match: re.Match[str]) -> str:
        return match[1] + numbers.get(match[2], match[2])

    svg = re.sub(r'(\bid="|#)([a-z][0-9a-f]{10})\b', replace, svg)
    return re.sub(r'(?<=[ "])-0(?=[ "\n])', "0", svg)


def draw_line(
    axes: Axes, points: Mapping[float, Accuracy], label: str, index: int, factor: float = 100
) -> None:
    """Draw a line through means over seeds, with bars of one standard deviation.

    Args:
        axes: Axes to draw on.
        points: Position on the x axis to the numbers there.
        label: Name of the line.
        index: Number of the line, which sets its color and marker.
        factor: Factor of the numbers: 100 shows shares in per cent.
    """
    x = sorted(points)
    axes.errorbar(
        x,
        [factor * points[place].mean for place in x],
        [factor * points[place].std for place in x],
        color=COLORS[index % len(COLORS)],
        marker=MARKERS[index % len(MARKERS)],
        capsize=4,
        elinewidth=1.5,
        label=label,
    )
