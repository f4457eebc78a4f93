"""One branch is a crop, the other one the same crop and something more."""

import dataclasses

import pytest
import torch
from torch import Generator, Tensor

from simclr_ext.studies.material.one_branch import OneBranchSource, targeted_transforms
from simclr_ext.studies.material.transforms import compose, sobel
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.views.augment import Augment, crop_and_flip
from simclr_ext.trainer.views.batches import MemorySource, twice

CONFIG = TrainConfig(batch_size=6, image_size=8).resolve(3, 10, 12)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (14, 3, 10, 12), dtype=torch.uint8, generator=generator(0))


def test_batches_are_those_of_a_run(images: Tensor) -> None:
    ours, theirs = OneBranchSource(images, CONFIG, sobel), MemorySource(images, CONFIG)
    assert (ours.images, ours.steps) == (14, 2)
    for batch, other in zip(ours.batches(1), theirs.batches(1), strict=True):
        assert torch.equal(batch, other)


def test_the_first_branch_is_cropped_and_the_second_is_transformed_on_top(images: Tensor) -> None:
    first, second = OneBranchSource(images, CONFIG, sobel).views(twice(images[:6]), 3).chunk(2)
    crop = crop_and_flip(CONFIG.augment, 8)
    assert torch.equal(first, crop(images[:6], generator(3)))
    assert torch.equal(second, sobel(first))


def test_without_a_transformation_both_branches_are_equal(images: Tensor) -> None:
    first, second = (
        OneBranchSource(images, CONFIG, compose([])).views(twice(images[:6]), 3).chunk(2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(
        first, OneBranchSource(images, CONFIG, sobel).views(twice(images[:6]), 4)[:6]
    )


def test_the_transformation_draws_numbers_of_its_own(images: Tensor) -> None:
    """They differ from the crop's, and from batch to batch."""

    def paint(views: Tensor, random: Generator) -> Tensor:
        drawn.append(float(torch.rand((), generator=random)))
        return torch.zeros_like(views)

    drawn: list[float] = []
    source = OneBranchSource(images, CONFIG, paint)
    for seed in (0, 0, 1):
        assert torch.equal(source.views(twice(images[:6]), seed)[6:], torch.zeros(6, 3, 8, 8))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != float(torch.rand((), generator=generator(0)))


def test_each_targeted_transformation_does_only_its_own_part(images: Tensor) -> None:
    """A vertical gray ramp shows which ones keep rows constant, and which change colors."""
    targeted = targeted_transforms(CONFIG.augment, 8)
    assert list(targeted) == ["crop", "cutout", "color", "sobel", "noise", "blur", "rotate"]
    ramp = torch.linspace(0.2, 0.8, 8)
    views = (ramp[:, None] + 0 * ramp).expand(64, 3, 8, 8).contiguous()
    found = {name: transform(views, generator(0)) for name, transform in targeted.items()}
    for name, after in found.items():
        assert after.shape == views.shape, name
        assert not torch.equal(after, views), name
        even_rows = torch.allclose(after, after[..., :1].expand_as(after), atol=1e-6)
        assert even_rows == (name in ("crop", "color", "sobel", "blur")), name
    still = (found["color"] == views).flatten(1).all(dim=1).double().mean()
    assert 0 < float(still) < 0.5  # 0.2 * 0.8 in expectation


def test_color_and_blur_are_those_of_the_run(images: Tensor) -> None:
    config = dataclasses.replace(CONFIG.augment, jitter_strength=1.0, blur_sigma=(1.0, 1.5))
    targeted = targeted_transforms(config, 8)
    color, blur, crop = targeted["color"], targeted["blur"], targeted["crop"]
    assert isinstance(color, Augment)
    assert isinstance(blur, Augment)
    assert isinstance(crop, Augment)
    assert color.config == dataclasses.replace(config, crop_probability=0, flip_probability=0)
    assert blur.config.blur_sigma == (1.0, 1.5)
    assert blur.config.blur_probability == 1
    assert crop.config.crop_area == config.crop_area
    assert crop.config.jitter_probability == 0
