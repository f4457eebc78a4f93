"""Random crops of files: from the whole image, with the right distribution, set by their seeds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.data.decode import Picture
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.views.crops import crop_files, crop_picture
from tests.trainer.helpers import lazy_images

CONFIG = AugmentConfig()


def coordinates(width: int, height: int) -> Image.Image:
    """An image whose red is the column and whose green is the row of each pixel."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return Image.fromarray(pixels)


def boxes(crops: torch.Tensor) -> torch.Tensor:
    """Return left, top, width and height, [b, 4], of crops [b, 3, 32, 32] of `coordinates`."""
    x, y = crops[:, 0, 16].double(), crops[:, 1, :, 16].double()  # [b, 32]
    # Inner pixels, because the antialiasing of the border is one-sided.
    width, height = ((axis[:, 24] - axis[:, 8]) * 2 for axis in (x, y))
    left, top = ((axis[:, 8] + axis[:, 24] + 1) / 2 for axis in (x, y))
    return torch.stack([left - width * 0.515625, top - height * 0.515625, width, height], dim=1)


def test_crops_have_torchvisions_distribution_over_the_whole_image(tmp_path: Path) -> None:
    coordinates(240, 120).save(tmp_path / "a.png")
    files = lazy_images([tmp_path / "a.png"], side=32)
    count = 1500
    seeds = torch.randint(2**62, (count,), generator=generator(0))
    found = boxes(crop_files(files, torch.zeros(count, dtype=torch.int64), CONFIG, seeds))
    torch.manual_seed(0)
    image = coordinates(240, 120)
    drawn = [
        RandomResizedCrop.get_params(image, list(CONFIG.crop_area), list(CONFIG.crop_ratio))
        for _ in range(count)
    ]
    top, left, height, width = torch.tensor(drawn).double().unbind(dim=1)
    expected = torch.stack([left, top, width, height], dim=1)
    found = torch.cat([found, found[:, 2:].prod(dim=1, keepdim=True)], dim=1)
    expected = torch.cat([expected, expected[:, 2:].prod(dim=1, keepdim=True)], dim=1)
    # Two samples: their means differ by less than 4.5 standard errors of the difference, and by
    # the rounding of the coordinates to integers.
    error = expected.std(dim=0) * (2 / count) ** 0.5
    rounding = torch.tensor([1.0, 1.0, 1.0, 1.0, 200.0])
    assert ((found.mean(dim=0) - expected.mean(dim=0)).abs() < 4.5 * error + rounding).all()
    # Beyond the central square of the evaluation, which is columns 67 to 173.
    assert float((found[:, 0] < 60).double().mean()) > 0.3
    assert float((found[:, 0] + found[:, 2] > 180).double().mean()) > 0.3


def test_without_cropping_the_whole_image_is_resized() -> None:
    image, config = coordinates(40, 20), AugmentConfig(crop_probability=0.0)
    whole = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    first, second = crop_picture(Picture(image, "x"), 2, config, 8, generator(0))
    assert np.array_equal(first, whole)
    assert np.array_equal(second, whole)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_crop_depends_on_its_own_seed_alone(tmp_path: Path, workers: int) -> None:
    for index in range(5):
        coordinates(50 + 9 * index, 70 - 8 * index).save(tmp_path / f"{index}.png")
    paths = tuple(str(tmp_path / f"{index}.png") for index in range(5))
    files = lazy_images(paths, side=16, workers=workers)
    rows, seeds = torch.tensor([4, 0, 0, 3]), torch.tensor([7, 2**62, 5, 7])
    before = torch.get_rng_state()
    crops = crop_files(files, rows, CONFIG, seeds)
    assert torch.equal(torch.get_rng_state(), before)
    for place, (row, seed) in enumerate(zip(rows.tolist(), seeds.tolist(), strict=True)):
        with files.open(row) as picture:
            (alone,) = crop_picture(picture, 1, CONFIG, 16, generator(seed))
        assert torch.equal(crops[place], alone)
    assert not torch.equal(crops[1], crops[2])
