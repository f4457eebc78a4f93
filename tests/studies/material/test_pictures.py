"""Pictures as text, and back."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from simclr_ext.studies.material.pictures import show, to_text


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_comes_back_as_it_was(channels: int) -> None:
    image = torch.arange(channels * 6, dtype=torch.uint8).view(channels, 2, 3) * 14
    for picture in (image, image / 255):
        axes = Figure().subplots()
        show(axes, to_text(picture))
        (shown,) = axes.images
        pixels = np.asarray(shown.get_array()).reshape(2, 3, channels)
        assert np.array_equal(pixels, image.permute(1, 2, 0).numpy())
        assert shown.get_clim() == (0, 255)
