"""Batches and views: every image once, and the same views for the same seed."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.config import AugmentConfig, TrainConfig
from simclr_ext.trainer.data import LazyImages, open_data
from simclr_ext.trainer.data.decode import Picture
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.views.augment import Augment, crop_and_flip
from simclr_ext.trainer.views.batches import Source, build_source, random_views
from tests.tools import ROOT
from tests.trainer.helpers import lazy_images, write_folder

PLAIN = AugmentConfig(
    crop_probability=0.0, flip_probability=0.0, jitter_probability=0.0, grayscale_probability=0.0
)
BILINEAR = Image.Resampling.BILINEAR
CONFIG = TrainConfig(image_size=8, batch_size=5, workers=0, augment=PLAIN).resolve(3, 8, 8)


@pytest.fixture(params=["memory", "files"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    sizes = [(8, 8)] if request.param == "memory" else [(8, 8), (9, 7)]
    write_folder(tmp_path / "pets", sizes)
    data = open_data(str(tmp_path / "pets"))
    assert isinstance(data.train.images, Tensor if request.param == "memory" else LazyImages)
    return build_source(data, CONFIG)


def test_an_epoch_has_every_image_once_but_those_of_the_last_batch(source: Source) -> None:
    assert (source.images, source.steps) == (12, 2)
    epochs = [torch.cat(list(source.batches(epoch))) for epoch in (0, 0, 1)]
    assert len(epochs[0]) == 10
    assert len(epochs[0].flatten(1).unique(dim=0)) == 10
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])


def test_an_epoch_can_be_entered_in_the_middle(source: Source) -> None:
    (last,) = source.batches(3, skip=1)
    assert torch.equal(last, list(source.batches(3))[1])


def test_views_of_equal_seeds_are_equal(source: Source) -> None:
    batch = next(iter(source.batches(0)))
    assert (batch.shape, batch.dtype) == ((5, 2, 3, 8, 8), torch.uint8)
    views = source.views(batch, 7)
    assert (views.shape, views.dtype) == ((10, 3, 8, 8), torch.float32)
    assert torch.equal(views, source.views(batch, 7))
    # Without any random operation, both views are the image.
    torch.testing.assert_close(views[:5], views[5:])
    torch.testing.assert_close(views[:5], batch[:, 0] / 255)


def test_files_are_cropped_from_the_whole_image_in_any_process(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", [(40, 30), (24, 48)], per_class=3)
    data = open_data(str(tmp_path / "pets"))
    config = dataclasses.replace(CONFIG, augment=AugmentConfig(flip_probability=0.0))
    before = torch.get_rng_state()
    (batch,) = build_source(data, config).batches(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert batch.shape == (5, 2, 3, 8, 8)
    assert not torch.equal(batch[:, 0], batch[:, 1])
    (again,) = build_source(data, dataclasses.replace(config, workers=1)).batches(0)
    assert torch.equal(batch, again)
    (other,) = build_source(data, config).batches(1)
    assert not torch.equal(batch, other)


# Without a main guard, which only forks can do without.
SCRIPT = """
import multiprocessing, sys
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.data import open_data
from simclr_ext.trainer.views.batches import build_source

multiprocessing.set_start_method("forkserver", force=True)
config = TrainConfig(image_size=8, batch_size=5, workers=1).resolve(3, 8, 8)
source = build_source(open_data(sys.argv[1]), config)
print(*(len(list(source.batches(epoch))) for epoch in range(2)))
print(multiprocessing.get_start_method())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the processes are forked on Linux alone")
def test_processes_are_forked_whatever_the_default_is(tmp_path: Path) -> None:
    """A fork server's would import torch, and the script, anew in every epoch."""
    write_folder(tmp_path / "pets", [(8, 8), (9, 7)])
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "pets")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["2", "2", "forkserver"]


def test_too_few_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", [(8, 8)])
    config = dataclasses.replace(CONFIG, batch_size=13)
    with pytest.raises(DataError, match="batch_size must be at most the 12 training images"):
        build_source(open_data(str(tmp_path / "pets")), config)


def test_views_of_images_in_memory_are_the_augmentations() -> None:
    augment = crop_and_flip(AugmentConfig(flip_probability=0.5), 8)
    images = torch.randint(256, (9, 3, 12, 10), dtype=torch.uint8)
    rows = torch.tensor([3, 3, 8])
    views = random_views(images, augment, torch.device("cpu"))(rows, generator(1))
    assert torch.equal(views, augment(images[rows], generator(1)))


def whole_square(picture: Picture) -> torch.Tensor:
    """Return the whole picture, resized by Pillow."""
    image = Image.fromarray(picture.whole().permute(1, 2, 0).numpy())
    return torch.from_numpy(np.array(image.resize((8, 8), BILINEAR))).permute(2, 0, 1)


def test_views_of_files_are_crops_and_flips(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", [(30, 20), (18, 40)])
    paths = tuple(map(str, sorted((tmp_path / "pets/train/cat").iterdir())))
    rows = torch.arange(6).repeat(20)

    def views(augment: Augment, workers: int = 1, seed: int = 0) -> torch.Tensor:
        files = lazy_images(paths, side=8, workers=workers)
        return random_views(files, augment, torch.device("cpu"))(rows, generator(seed))

    augment = crop_and_flip(AugmentConfig(flip_probability=0.5), 8)
    base = views(augment)
    assert (base.shape, base.dtype) == ((120, 3, 8, 8), torch.float32)
    assert torch.equal(base, views(augment, workers=4))
    assert not torch.equal(base, views(augment, seed=1))
    # Without crops, a view is the whole image or its mirror image.
    whole = lazy_images(paths, side=8).read(rows, lambda picture, _: whole_square(picture))
    either = views(Augment(dataclasses.replace(augment.config, crop_probability=0.0), 8))
    pairs = list(zip(either, whole / 255, strict=True))
    rounding = 1.01 / 255
    flipped = [bool(((view - image.flip(2)).abs() < rounding).all()) for view, image in pairs]
    same = [bool(((view - image).abs() < rounding).all()) for view, image in pairs]
    assert [a != b for a, b in zip(flipped, same, strict=True)] == [True] * 120
    assert 35 < sum(flipped) < 85  # 60 by 4.5 standard deviations of 5.5
