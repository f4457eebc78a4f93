"""Random crops of image files, each taken from the image at its own size."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.data import LazyImages
from simclr_ext.trainer.data.decode import Picture
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.views.parameters import random_crop


def crop_picture(
    picture: Picture, count: int, config: AugmentConfig, side: int, random: Generator
) -> list[Tensor]:
    """Return random crops of a picture, of one decoding, [C, side, side] uint8 each."""
    width, height = picture.size
    top, left, rows, columns = random_crop(count, height, width, config, random)
    boxes = torch.stack([left, top, left + columns, top + rows], dim=1)
    return picture.squares(boxes.tolist(), side)


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

    def crop(picture: Picture, place: int) -> Tensor:
        (square,) = crop_picture(picture, 1, config, side, generator(own[place]))
        return square

    return files.read(rows, crop)
