"""Own augmentations: what they must do is checked once, before the training."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import v2

from simclr_ext.options.errors import ConfigError, MissingArgumentError
from simclr_ext.trainer import each_image
from simclr_ext.trainer.config import AugmentConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, Part, open_data
from simclr_ext.trainer.views.batches import build_source
from tests.trainer.helpers import write_folder

CONFIG = TrainConfig(
    batch_size=4, image_size=8, workers=0, augment=AugmentConfig(custom=True)
).resolve(3, 8, 8)


@pytest.fixture
def data() -> Dataset:
    random = Generator().manual_seed(0)
    images = torch.randint(256, (6, 3, 12, 10), generator=random, dtype=torch.uint8)
    return Dataset("tiny", Part.of(images), Part.of(images))


def noisy(images: Tensor, generator: Generator) -> Tensor:
    small = images[..., :8, :8] / 255
    return (small + 0.1 * torch.rand(small.shape, generator=generator)).clamp(0, 1)


def test_views_are_the_functions(data: Dataset) -> None:
    source = build_source(data, CONFIG, noisy)
    batch = next(iter(source.batches(0)))
    views = source.views(batch, seed=3)
    random = Generator().manual_seed(3)
    expected = torch.cat([noisy(images, random) for images in batch.unbind(1)])
    assert torch.equal(views, expected)
    assert not torch.equal(*views.chunk(2))


def test_image_files_are_cropped_first(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", sizes=[(40, 30), (33, 50)])
    seen: list[tuple[int, ...]] = []

    def record(images: Tensor, _: Generator) -> Tensor:
        seen.append(tuple(images.shape))
        return images / 255

    source = build_source(open_data(str(tmp_path / "pets")), CONFIG, record)
    batch = next(iter(source.batches(0)))
    assert source.views(batch, seed=0).shape == (8, 3, 8, 8)
    assert set(seen) == {(2, 3, 8, 8), (4, 3, 8, 8)}
    assert not torch.equal(batch[:, 0], batch[:, 1])


def test_transforms_of_single_images() -> None:
    transform = v2.Compose([v2.RandomResizedCrop(8), v2.ColorJitter(brightness=0.5)])
    images = torch.randint(256, (5, 3, 12, 12), dtype=torch.uint8)
    augment = each_image(transform)
    before = torch.get_rng_state()
    first, again, other = (augment(images, Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert (first.shape, first.dtype) == ((5, 3, 8, 8), torch.float32)
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    same = augment(images[:1].expand(2, -1, -1, -1), Generator())
    assert not torch.equal(*same)  # images are augmented independently
    floats = each_image(v2.ToDtype(torch.float32, scale=True))
    torch.testing.assert_close(floats(images, Generator()), images / 255)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda images, _: list(images), "augment must return a tensor, got a list"),
        (lambda images, _: images / 255, r"views \[2, 3, 8, 8\] on cpu .* got \[2, 3, 12, 10\]"),
        (lambda images, _: images[..., :8, :8], r"float32 views .* got .* torch.uint8"),
        (lambda images, _: images[..., :8, :8] * 1.0, r"values in \[0, 1\], got 0 to 25"),
        (lambda images, _: images[..., :8, :8] / 0, r"values in \[0, 1\], got nan to nan"),
        (lambda images, _: torch.rand(2, 3, 8, 8), "every random number from its generator"),
        ("crop", "augment must be a function, got a str"),
    ],
)
def test_what_is_not_an_augmentation(
    augment: Callable[[Tensor, Generator], Tensor], message: str, data: Dataset
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_source(data, CONFIG, augment)


def test_it_is_given_where_the_run_has_its_own(data: Dataset) -> None:
    with pytest.raises(MissingArgumentError, match="from Python, as the argument `augment`"):
        build_source(data, CONFIG)
    plain = dataclasses.replace(CONFIG, augment=AugmentConfig(flip_probability=0.5))
    with pytest.raises(ConfigError, match="augment must be None for a run whose configuration"):
        build_source(data, plain, noisy)
