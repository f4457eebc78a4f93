"""Pictures as text, stored in rows, so that they can be drawn again without the data."""

from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from simclr_ext.studies.engine.figures import GRAY
from simclr_ext.trainer.data.png import data_url


def to_text(image: Tensor) -> str:
    """Return an image [C, H, W], uint8 or floating in [0, 1], as a data URL of a PNG."""
    if image.is_floating_point():
        image = (255 * image).round().byte()
    return data_url(image.cpu())


def show(axes: Axes, text: str, color: str = GRAY, style: str = "-") -> None:
    """Show a picture given as text, in a frame that may have the color and style of a line."""
    png = base64.b64decode(text.partition(",")[2])
    pixels = np.array(Image.open(io.BytesIO(png)))
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=color, linestyle=style, linewidth=2)
