"""What pictures show of images with any number of channels."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext.trainer.data.png import data_url, visible, visible_note


@pytest.mark.parametrize(
    ("channels", "count", "note"),
    [
        (1, 1, ""),
        (2, 1, "Pictures show the first of 2 channels."),
        (3, 3, ""),
        (4, 3, "Pictures show the first three of 4 channels."),
        (9, 3, "Pictures show the first three of 9 channels."),
    ],
)
def test_the_first_three_channels_are_shown_or_the_first(
    channels: int, count: int, note: str
) -> None:
    images = torch.randint(256, (2, channels, 4, 5), dtype=torch.uint8)
    assert torch.equal(visible(images), images[:, :count])
    assert visible_note(channels) == note
    png = base64.b64decode(data_url(images[1]).partition(",")[2])
    pixels = np.atleast_3d(np.array(Image.open(io.BytesIO(png))))
    assert np.array_equal(pixels, images[1, :count].permute(1, 2, 0))
