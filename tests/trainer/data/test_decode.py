"""Squares of images: decoded as small as they may be, and the same as of the whole image."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data.decode import Box, Picture
from tests.trainer.helpers import UPRIGHT

BILINEAR = Image.Resampling.BILINEAR
SIDE = 8


def smooth(width: int, height: int) -> Image.Image:
    """An image of slow waves, which a smaller decoding shows as well."""
    x, y = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
    phase = np.arange(3)
    waves = np.sin(x / 40 + phase) + np.cos(y / 30 - phase)
    return Image.fromarray((128 + 60 * waves).astype(np.uint8))


def encoded(image: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **({"quality": 95} | options))
    return buffer.getvalue()


def opened(content: bytes, **options: Any) -> Picture:
    return Picture(Image.open(io.BytesIO(content)), "some.jpg", **{"own": True} | options)


def of_whole(content: bytes, box: Box, side: int = SIDE) -> torch.Tensor:
    """Return a box of the whole image, decoded at its own size, and resized by Pillow."""
    image = Image.open(io.BytesIO(content))
    image = ImageOps.exif_transpose(image).convert("L" if image.mode == "L" else "RGB")
    square = np.atleast_3d(image.crop(box).resize((side, side), BILINEAR))
    return torch.from_numpy(square.copy()).permute(2, 0, 1)


def gap(first: torch.Tensor, second: torch.Tensor) -> int:
    """Return the largest difference of two images of bytes."""
    assert first.dtype == second.dtype == torch.uint8
    assert first.shape == second.shape
    return int((first.int() - second.int()).abs().max())


@pytest.mark.parametrize(
    ("shortest", "scale"),
    [(SIDE, 1), (2 * SIDE - 1, 1), (2 * SIDE, 2), (4 * SIDE - 1, 2), (4 * SIDE, 4), (8 * SIDE, 8),
     (100, 8)],
)  # fmt: skip
def test_the_scale_is_the_smallest_of_which_no_box_is_enlarged(shortest: int, scale: int) -> None:
    picture = opened(encoded(smooth(203, 101)))
    picture.squares([(0, 0, 200, 101), (7, 1, 107, 1 + shortest)], SIDE)
    assert picture.image.size == (-(-203 // scale), -(-101 // scale))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("image", [smooth(203, 157), smooth(203, 157).convert("L")])
def test_squares_are_those_of_the_whole_image(image: Image.Image, options: dict[str, Any]) -> None:
    content = encoded(image, **options)
    boxes: list[Box] = [(8, 16, 152, 144), (72, 8, 200, 152), (0, 0, 200, 152)]
    squares = opened(content).squares(boxes, SIDE)
    for box, square in zip(boxes, squares, strict=True):
        assert gap(square, of_whole(content, box)) <= 3
    for box, square in zip(
        boxes, opened(content).squares([*boxes, (0, 0, 8, 8)], SIDE), strict=False
    ):
        assert gap(square, of_whole(content, box)) <= 1  # of rounding: not shrunk


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF"])
def test_squares_of_turned_images(number: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    options = {} if image_format == "JPEG" else {"quality": None}
    # 149 and 107 are no multiples of 8: what is left over is at either end of the upright image.
    content = encoded(smooth(149, 107), image_format, exif=exif, **options)
    stored = np.zeros((107, 149), bool)
    stored[24:96, 16:80] = True
    rows, columns = np.nonzero(UPRIGHT[number](stored))
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    picture = opened(content)
    assert picture.size == UPRIGHT[number](stored).shape[::-1]
    (square,) = picture.squares([box], SIDE)
    assert gap(square, of_whole(content, box)) <= (3 if image_format == "JPEG" else 1)


def test_a_small_decoding_loses_little_of_a_photograph() -> None:
    """Noise of a photograph's spectrum, 1/f: at worst, that of two shrinkings in a row."""
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((512, 512))) / frequency)
    photograph = Image.fromarray((128 + 45 * noise / noise.std()).clip(0, 255).astype(np.uint8))
    content = encoded(photograph, quality=90)
    for box_side, side in itertools.product((512, 400), (224, 100, 64)):
        box = (0, 0, box_side, box_side)
        (square,) = opened(content).squares([box], side)
        error = square.double() - of_whole(content, box, side)
        assert float(error.square().mean()) < 255**2 / 10**3  # a PSNR of 30 dB


def test_the_image_of_somebody_else_is_not_shrunk() -> None:
    content = encoded(smooth(200, 160))
    theirs = Image.open(io.BytesIO(content))
    (square,) = Picture(theirs, "x").squares([(0, 0, 200, 160)], SIDE)
    assert theirs.size == (200, 160)
    assert gap(square, of_whole(content, (0, 0, 200, 160))) <= 1


def test_what_is_decoded_already_is_not_shrunk() -> None:
    image = smooth(100, 80)
    picture = Picture(image, "x", own=True)
    for _ in range(2):
        (square,) = picture.squares([(10, 0, 90, 80)], SIDE)
        assert gap(square, of_whole(encoded(image, "PNG", quality=None), (10, 0, 90, 80))) <= 1
    assert image.size == (100, 80)


def test_channels_background_and_errors() -> None:
    gray = opened(encoded(smooth(80, 80).convert("L")), channels=3)
    assert gray.squares([(0, 0, 80, 80)], SIDE)[0].shape == (3, SIDE, SIDE)
    clear = Picture(Image.new("RGBA", (9, 9)), "x", background=(1, 2, 3))
    assert clear.squares([(0, 0, 9, 9)], 3)[0][:, 1, 1].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"some\.jpg: has color"):
        opened(encoded(smooth(80, 80)), channels=1).squares([(0, 0, 80, 80)], SIDE)
    with pytest.raises(OSError, match="truncated"):
        opened(encoded(smooth(400, 400))[:-3000]).squares([(0, 0, 400, 400)], SIDE)
