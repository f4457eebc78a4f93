"""Random crops of image files, each taken from the image at its own size."""

from __future__ import annotations

from PIL import Image
from torch import Generator, Tensor

from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.data import LazyImages
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.views.parameters import random_crop


def crop_image(
    image: Image.Image, config: AugmentConfig, side: int, random: Generator
) -> Image.Image:
    """Return a random crop of an image, resized to a square of `side`."""
    width, height = image.size
    drawn = random_crop(1, height, width, config, random)
    top, left, rows, columns = (int(value) for value in drawn)
    box = (left, top, left + columns, top + rows)
    return image.resize((side, side), Image.Resampling.BILINEAR, box)


def crop_files(files: LazyImages, rows: Tensor, config: AugmentConfig, seeds: Tensor) -> Tensor:
    """Return a random crop of each of some files, [b, 3, side, side] uint8.

    Args:
        files: The files.
        rows: [b].
        config: Probability, area and aspect ratio of the crops.
        seeds: [b] int64: each crop depends on its own seed, and not on the threads.

    Raises:
        DataError: A file is not an image, or is broken.
    """
    own, side = seeds.tolist(), files.chosen_side

    def crop(image: Image.Image, place: int) -> Image.Image:
        return crop_image(image, config, side, generator(own[place]))

    return files.read(rows, crop)
