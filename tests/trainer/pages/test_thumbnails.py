"""Thumbnails: their sizes, and that each is found in its cell of its sheet."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext.trainer.pages.thumbnails import make_sheets, shrink


@pytest.mark.parametrize(
    ("size", "expected"),
    [((224, 224), (64, 64)), ((100, 65), (64, 42)), ((500, 1), (64, 1)), ((64, 48), (64, 48)),
     ((32, 32), (32, 32)), ((28, 28), (56, 56)), ((8, 6), (32, 24)), ((1, 1), (32, 32))],
)  # fmt: skip
def test_thumbnails_are_of_similar_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shrink(torch.zeros(2, 3, *size, dtype=torch.uint8)).shape == (2, 3, *expected)


def test_small_images_keep_their_pixels() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    assert torch.equal(shrink(image)[:, :, ::4, ::4], image)


def test_large_images_are_averaged() -> None:
    stripes = (torch.arange(128) % 2 * 200).to(torch.uint8).expand(1, 3, 128, 128)
    inner = shrink(stripes)[:, :, 4:-4, 4:-4].float()
    assert (inner - 100).abs().max() <= 26  # of stripes half as wide as a pixel nothing is left


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 33, 1100])
def test_sheets_have_every_thumbnail_in_its_cell(count: int, channels: int) -> None:
    levels = torch.arange(count * channels).view(count, channels) * 37 % 256
    thumbnails = levels.to(torch.uint8)[:, :, None, None].expand(-1, -1, 16, 16)
    sheets = make_sheets(thumbnails)
    assert len(sheets.urls) == (2 if count > 1024 else 1)
    cells = []
    for url in sheets.urls:
        start, _, text = url.partition(",")
        assert start == "data:image/webp;base64"
        picture = np.array(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
        assert picture.shape == (16 * sheets.rows, 16 * sheets.columns, 3)
        cells.append(picture[8::16, 8::16].reshape(-1, 3))
    found = np.concatenate(cells)[:count].astype(int)
    error = np.abs(found - levels.expand(-1, 3).numpy())
    assert error.mean() < 4  # WebP shares color among neighboring pixels
    assert error.max() < 40
