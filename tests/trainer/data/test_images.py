"""Image files: decoded by any number of threads, in the requested order; broken ones are named."""

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import LazyImages
from tests.trainer.helpers import lazy_images

SIZES = [(40, 30), (16, 32), (21, 21), (9, 60)]


def write(folder: Path, count: int = 8, **options: int) -> LazyImages:
    """Write images of several sizes, PNG and JPEG in turn."""
    random = np.random.default_rng(0)
    paths = []
    for index in range(count):
        width, height = SIZES[index % len(SIZES)]
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        paths.append(str(folder / f"{index}.{('png', 'jpg')[index // 2 % 2]}"))
        Image.fromarray(pixels).save(paths[-1])
    return lazy_images(paths, **options)


def test_rows_are_decoded_in_the_order_asked_for(tmp_path: Path) -> None:
    files = write(tmp_path, side=8)
    every = files[:]
    assert (every.shape, every.dtype) == ((8, 3, 8, 8), torch.uint8)
    assert every.is_contiguous()
    rows = torch.tensor([5, 0, 5])
    assert torch.equal(files[rows], every[rows])
    assert torch.equal(files[6:100], every[6:])


def test_the_central_square_is_seven_eighths_of_the_shorter_side(tmp_path: Path) -> None:
    files = write(tmp_path, count=2, side=14)
    # The central 14 x 14 pixels of the 16 x 32 image, not resized: 8/7 of 14 is 16.
    with files.open(1) as picture:
        assert torch.equal(files[1:][0], picture.whole()[:, 9:23, 1:15])


def test_the_number_of_threads_does_not_matter(tmp_path: Path) -> None:
    one, four = write(tmp_path, side=12, workers=1), write(tmp_path, side=12, workers=4)
    assert torch.equal(one[:], four[:])


def encoded(image_format: str, noise: int = 90) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((40, 40), noise).convert("RGB").save(buffer, image_format)
    return buffer.getvalue()


def with_byte(content: bytes, index: int, value: int) -> bytes:
    return content[:index] + bytes([value]) + content[index + 1 :]


# Pillow raises OSError, SyntaxError, ValueError and DecompressionBombError for these.
BROKEN = {
    "text": b"no image",
    "empty": b"",
    "truncated PNG": encoded("PNG")[:900],
    "truncated JPEG": encoded("JPEG")[:-300],
    "PNG that says its pixels are fewer": with_byte(encoded("PNG", noise=0), 36, 0),
    "PPM with a broken number": b"P6\n4 4\n255x\n" + bytes(48),
    "BMP of a billion pixels": encoded("BMP")[:18] + b"\xff\xff\0\0" * 2 + encoded("BMP")[26:],
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, workers: int) -> None:
    files = write(tmp_path, side=8, workers=workers)
    Path(files.reader.name(3)).write_bytes(content)
    with pytest.raises(DataError, match=r"3\.jpg: not a readable image"):
        files[:]
    assert len(files[:3]) == 3


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    files = write(tmp_path, side=8)
    Path(files.reader.name(2)).unlink()
    for use in (lambda: files[:], lambda: header(files, 2), lambda: list(files.versions())):
        with pytest.raises(DataError, match=r"2\.jpg: not a readable image"):
            use()


def header(files: LazyImages, row: int) -> tuple[tuple[int, int], int]:
    """Return size and C of an image."""
    with files.open(row) as picture:
        return picture.size, picture.own_channels


def test_sizes_and_versions(tmp_path: Path) -> None:
    files = write(tmp_path)
    assert [header(files, row) for row in range(8)] == [(size, 3) for size in SIZES * 2]
    before = list(files.versions())
    path = files.reader.name(1)
    os.utime(path, ns=(0, 10**18))
    after = list(files.versions())
    assert after[1] == (path, Path(path).stat().st_size, 10**18)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False] + [True] * 6


def test_without_a_crop_the_whole_image_is_resized(tmp_path: Path) -> None:
    files = dataclasses.replace(write(tmp_path, count=1, side=10), crop=False)
    with Image.open(files.reader.name(0)) as image:
        expected = np.asarray(image.resize((10, 10), Image.Resampling.BILINEAR)).astype(int)
    found = files[:][0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - expected).max() <= 1
