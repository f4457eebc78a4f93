"""Views: the distribution of what is drawn, and that each operation can be switched."""

import dataclasses

import pytest
import torch
from torch import Generator
from torchvision.transforms.v2 import RandomResizedCrop

from simclr_ext.trainer import image_ops
from simclr_ext.trainer.augment import Augment, random_crop
from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.errors import ConfigError

NONE = AugmentConfig(
    crop_probability=0,
    flip_probability=0,
    jitter_probability=0,
    grayscale_probability=0,
    blur_probability=0,
)
MANY = 4000
# A frequency's standard error is at most 0.008 here: five of them.
TOLERANCE = 0.04


@pytest.mark.parametrize(
    ("height", "width", "area", "ratio"),
    [
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (8, 8, (0.2, 1.0), (3 / 4, 4 / 3)),
        (10, 40, (0.5, 1.0), (3 / 4, 4 / 3)),  # almost nothing fits: the central crop
    ],
    ids=["square", "tiny", "wide"],
)
def test_crops_are_distributed_as_torchvisions(
    height: int,
    width: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    generator: Generator,
) -> None:
    config = dataclasses.replace(NONE, crop_probability=1, crop_area=area, crop_ratio=ratio)
    ours = torch.stack(random_crop(MANY, height, width, config, generator), dim=1).double()
    top, left, h, w = ours.unbind(dim=1)
    assert bool(((top >= 0) & (left >= 0) & (h > 0) & (w > 0)).all())
    assert bool(((top + h <= height) & (left + w <= width)).all())

    torch.manual_seed(0)
    crop = RandomResizedCrop(8, scale=area, ratio=ratio)
    image = torch.zeros(1, height, width)
    drawn = [crop.make_params([image]) for _ in range(MANY)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).double()
    for column, side in enumerate([height, width, height, width]):
        grid = torch.arange(side + 1)[:, None]
        gap = (ours[:, column] <= grid).double().mean(1) - (
            theirs[:, column] <= grid
        ).double().mean(1)
        assert gap.abs().max() < 1.5 * TOLERANCE, f"column {column}"  # two samples of this size


def test_without_operations_views_are_the_resized_images(generator: Generator) -> None:
    images = torch.randint(256, (5, 3, 10, 12), dtype=torch.uint8, generator=generator)
    views = Augment(NONE, 16)(images, generator)
    assert torch.equal(views, image_ops.resize(images, 16))


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_probability": 0.3},
        {"flip_probability": 0.3},
        {"jitter_probability": 0.3, "jitter_strength": 0.5},
        {"grayscale_probability": 0.3},
        {"blur_probability": 0.3, "blur_sigma": (0.5, 2.0)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_operation_changes_its_share_of_the_images(
    changes: dict[str, float], generator: Generator
) -> None:
    images = torch.rand(1, 3, 8, 8, generator=generator).expand(MANY, 3, 8, 8)
    views = Augment(dataclasses.replace(NONE, **changes), 8)(images, generator)
    changed = (views - images).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert abs(float(changed.double().mean()) - 0.3) < TOLERANCE
    # Each image has parameters of its own, unless the operation has none.
    several = not {"flip_probability", "grayscale_probability"} & changes.keys()
    assert (len(views.flatten(1).unique(dim=0)) > 50) == several


def test_brightness_reaches_and_keeps_its_range(generator: Generator) -> None:
    # One level of grey: contrast, saturation and hue leave it as it is.
    images = torch.full((MANY, 3, 2, 2), 0.5)
    config = dataclasses.replace(NONE, jitter_probability=1, jitter_strength=0.5)
    levels = Augment(config, 2)(images, generator)[:, 0, 0, 0] / 0.5
    assert 0.6 <= levels.min() < 0.61
    assert 1.39 < levels.max() <= 1.4001
    assert abs(float(levels.mean()) - 1) < TOLERANCE


def test_jitter_varies_the_order(generator: Generator) -> None:
    """With every factor fixed, the views of one image differ only by the order of operations."""
    images = torch.rand(1, 1, 4, 4, generator=generator).expand(MANY, 1, 4, 4)
    augment = Augment(dataclasses.replace(NONE, jitter_probability=1), 4)
    factor = torch.full((MANY,), 1.7)
    bright, contrast = image_ops.adjust_brightness, image_ops.adjust_contrast
    one = contrast(bright(images, factor), factor)
    other = bright(contrast(images, factor), factor)
    assert (one - other).abs().max() > 0.01
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simclr_ext.trainer.augment._uniform", fixed_uniform)
        views = augment(images, generator)
    is_one = (views - one).abs().amax(dim=(1, 2, 3)) < 1e-6
    is_other = (views - other).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert bool((is_one ^ is_other).all())
    assert abs(float(is_one.double().mean()) - 0.5) < TOLERANCE


def fixed_uniform(batch: int, low: float, high: float, generator: Generator) -> torch.Tensor:
    return torch.full((batch,), 1.7 if low > 0 else 0.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_operations_together(channels: int, generator: Generator) -> None:
    images = torch.randint(256, (64, channels, 9, 11), dtype=torch.uint8, generator=generator)
    augment = Augment(AugmentConfig(flip_probability=0.5, blur_probability=0.5), 40)
    assert augment.blur_radius == 2  # 10 % of 40, made odd: 5 pixels
    views = augment(images, generator)
    assert (views.shape, views.dtype) == ((64, channels, 40, 40), torch.float32)
    assert (views.min() >= -1e-6, views.max() <= 1 + 1e-6) == (True, True)


def test_views_depend_on_the_generator_alone(generator: Generator) -> None:
    images = torch.rand(8, 3, 8, 8, generator=generator)
    augment = Augment(AugmentConfig(flip_probability=0.5), 8)
    kept = images.clone()
    first = augment(images, Generator().manual_seed(1))
    torch.rand(1)  # the global state has no part in it
    assert torch.equal(first, augment(images, Generator().manual_seed(1)))
    assert not torch.equal(first, augment(images, Generator().manual_seed(2)))
    assert torch.equal(images, kept)


def test_unresolved_configuration_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"augment\.flip_probability is None"):
        Augment(AugmentConfig(), 16)
