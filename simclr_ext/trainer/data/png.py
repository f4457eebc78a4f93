"""Images for the eye: what is visible of any number of channels, and data URLs for pages."""

from __future__ import annotations

import base64
import io

from PIL import Image
from torch import Tensor


def visible(images: Tensor) -> Tensor:
    """Return the channels of [..., C, H, W] that pictures show: the first three, or the first."""
    channels = images.shape[-3]
    return images[..., : 3 if channels >= 3 else 1, :, :]


def visible_note(channels: int) -> str:
    """Return the sentence on the channels that pictures show; empty: they show all."""
    if channels in (1, 3):
        return ""
    part = "the first three" if channels > 3 else "the first"
    return f"Pictures show {part} of {channels} channels."


def data_url(image: Tensor) -> str:
    """Return an image [C, H, W] uint8 as a data URL of a PNG; see `visible`."""
    pixels = visible(image).permute(1, 2, 0).squeeze(2).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
