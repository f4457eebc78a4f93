"""Views: each is torchvision's, and each operation can be switched."""

import dataclasses
from dataclasses import fields

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Generator, Tensor

from simclr_ext.options.errors import ConfigError
from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.views import image_ops
from simclr_ext.trainer.views.augment import Augment, crop_and_flip
from simclr_ext.trainer.views.parameters import draw_parameters

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


def test_without_operations_views_are_the_resized_images(generator: Generator) -> None:
    images = torch.randint(256, (5, 3, 10, 12), dtype=torch.uint8, generator=generator)
    views = Augment(NONE, 16)(images, generator)
    assert torch.equal(views, image_ops.resize(images, 16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_views_of_crops_of_their_size_are_only_mirrored(
    dtype: torch.dtype, generator: Generator
) -> None:
    images = (torch.rand(40, 3, 8, 8, generator=generator) * 255).to(dtype)
    images = images / 255 if dtype == torch.float32 else images
    kept = images.clone()
    options = {"flip_probability": 0.5, "blur_probability": 0.5}
    never, hardly = (
        Augment(AugmentConfig(crop_probability=p, **options), 8)(images, Generator().manual_seed(1))
        for p in (0, 1e-30)  # which has every crop resized by the filter
    )
    assert float((never - hardly).abs().max()) <= 1e-6
    assert torch.equal(images, kept)


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
    # Each image has its own parameters, unless the operation has none.
    several = not {"flip_probability", "grayscale_probability"} & changes.keys()
    assert (len(views.flatten(1).unique(dim=0)) > 50) == several


@pytest.mark.parametrize("device", ["cpu", "other"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_view_is_torchvisions(
    channels: int, device: str, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation, in each image's own order, against torchvision image by image."""
    if device != "cpu":  # the way of other devices: all images in one piece, operation by operation
        monkeypatch.setattr("simclr_ext.trainer.views.augment._pieces", lambda *_: [slice(None)])
        monkeypatch.setattr("simclr_ext.trainer.views.augment._on_cpu", lambda _: False)
    config = AugmentConfig(flip_probability=0.5, jitter_strength=1.0, blur_probability=0.5)
    images = torch.randint(256, (200, channels, 30, 26), dtype=torch.uint8, generator=generator)
    views = Augment(config, 40)(images, Generator().manual_seed(7))
    drawn = draw_parameters(config, images.shape, Generator().manual_seed(7))
    assert len(drawn.order.unique(dim=0)) > (2 if channels == 1 else 20)
    for row, view in enumerate(views):
        expected = one_view(
            images[row], {f.name: getattr(drawn, f.name) for f in fields(drawn)}, row
        )
        assert (view - expected).abs().max() < 2e-5, f"image {row}"


def one_view(image: Tensor, drawn: dict[str, Tensor], row: int) -> Tensor:
    own = {name: values[row].tolist() for name, values in drawn.items() if name != "factors"}
    view = oracle.resized_crop(
        image.float() / 255, own["top"], own["left"], own["height"], own["width"], [40, 40]
    )
    if own["flip"]:
        view = oracle.horizontal_flip(view)
    names = ["adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue"]
    for step in own["order"]:
        if step >= 0:
            view = getattr(oracle, names[step])(view, float(drawn["factors"][step, row]))
    if own["grayscale"]:
        view = oracle.rgb_to_grayscale(view, num_output_channels=3)
    return oracle.gaussian_blur(view, [5, 5], [own["sigma"]] * 2) if own["blur"] else view


@pytest.mark.parametrize("channels", [1, 3])
def test_all_operations_together(channels: int, generator: Generator) -> None:
    images = torch.randint(256, (64, channels, 9, 11), dtype=torch.uint8, generator=generator)
    augment = Augment(AugmentConfig(flip_probability=0.5, blur_probability=0.5), 40)
    assert augment.blur_radius == 2  # 10 % of 40, made odd: 5 pixels
    views = augment(images, generator)
    assert (views.shape, views.dtype) == ((64, channels, 40, 40), torch.float32)
    assert (views.min() >= -1e-6, views.max() <= 1 + 1e-6) == (True, True)


@pytest.mark.parametrize("channels", [2, 5])
@pytest.mark.parametrize("size", [8, 12])
def test_each_of_other_numbers_of_channels_is_changed_as_a_gray_image(
    channels: int, size: int
) -> None:
    images = torch.randint(256, (30, channels, 9, 8), dtype=torch.uint8)
    augment = Augment(AugmentConfig(flip_probability=0.5, blur_probability=0.5), size)
    views = augment(images, Generator().manual_seed(1))
    gray = [augment(images[:, [c]], Generator().manual_seed(1)) for c in range(channels)]
    assert float((views - torch.cat(gray, dim=1)).abs().max()) < 1e-6


def test_views_depend_on_the_generator_alone(generator: Generator) -> None:
    images = torch.rand(8, 3, 8, 8, generator=generator)
    augment = Augment(AugmentConfig(flip_probability=0.5), 8)
    kept = images.clone()
    first = augment(images, Generator().manual_seed(1))
    torch.rand(1)  # the global state has no part in it
    assert torch.equal(first, augment(images, Generator().manual_seed(1)))
    assert not torch.equal(first, augment(images, Generator().manual_seed(2)))
    assert torch.equal(images, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_views_can_be_trained_on(dtype: torch.dtype, generator: Generator) -> None:
    images = torch.zeros(4, 3, 8, 8, dtype=dtype)
    views = Augment(AugmentConfig(flip_probability=0.5), 8)(images, generator)
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (views * weight).sum().backward()
    assert weight.grad is not None


def test_unresolved_configuration_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"augment\.flip_probability is None"):
        Augment(AugmentConfig(), 16)


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_only_crops_and_flips_are_left(flip: float) -> None:
    config = AugmentConfig(flip_probability=flip, crop_area=(0.3, 0.9), blur_probability=0.5)
    augment = crop_and_flip(config, 8)
    assert isinstance(augment, Augment)
    assert (augment.config.crop_area, augment.config.flip_probability) == ((0.3, 0.9), flip)
    images = torch.full((50, 3, 8, 8), 100, dtype=torch.uint8)
    views = augment(images, torch.Generator().manual_seed(0))
    assert (views - 100 / 255).abs().max() < 1e-6
