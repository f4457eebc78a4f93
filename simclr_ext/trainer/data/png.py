"""Images as data URLs, so that pages and tables can contain them."""

from __future__ import annotations

import base64
import io

from PIL import Image
from torch import Tensor


def data_url(image: Tensor) -> str:
    """Return an image [C, H, W] uint8 as a data URL of a PNG."""
    pixels = image.permute(1, 2, 0).squeeze(2).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
