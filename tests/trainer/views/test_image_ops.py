"""Image operations against torchvision's, image by image."""

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Generator, Tensor

from simclr_ext.trainer.views import image_ops

BATCH = 12


@pytest.fixture(params=[1, 3], ids=["gray", "color"])
def images(request: pytest.FixtureRequest, generator: Generator) -> Tensor:
    return torch.rand(BATCH, request.param, 20, 14, generator=generator)


@pytest.fixture
def factors(generator: Generator) -> Tensor:
    return 2 * torch.rand(BATCH, generator=generator)


def error(ours: Tensor, theirs: list[Tensor]) -> float:
    return float((ours - torch.stack(theirs)).abs().max())


@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast", "adjust_saturation"])
def test_adjust(name: str, images: Tensor, factors: Tensor) -> None:
    if name == "adjust_saturation" and images.shape[1] == 1:
        pytest.skip("gray images have no saturation")
    ours = getattr(image_ops, f"{name}_")(images.clone(), factors)
    pairs = zip(images, factors.tolist(), strict=True)
    assert error(ours, [getattr(oracle, name)(image, factor) for image, factor in pairs]) < 1e-6


def test_hue(generator: Generator) -> None:
    images = torch.rand(BATCH, 3, 20, 14, generator=generator)
    images[0] = 0.25  # no hue at all
    images[1, :, :, :7] = torch.tensor([1.0, 0.5, 1.0])[:, None, None]  # two brightest channels
    shifts = torch.linspace(-1 / 3, 1 / 3, BATCH)
    ours = image_ops.adjust_hue_(images.clone(), shifts)
    pairs = zip(images, shifts.tolist(), strict=True)
    assert error(ours, [oracle.adjust_hue(image, shift) for image, shift in pairs]) < 1e-5


def test_grayscale(generator: Generator) -> None:
    images = torch.rand(BATCH, 3, 20, 14, generator=generator)
    theirs = [oracle.rgb_to_grayscale(image, num_output_channels=3) for image in images]
    assert error(image_ops.grayscale_(images), theirs) < 1e-6


@pytest.mark.parametrize("size", [5, 14, 33], ids=["shrink", "same", "enlarge"])
def test_crop_resize_and_flip(images: Tensor, size: int, generator: Generator) -> None:
    def integers(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (BATCH,), generator=generator)

    height, width = integers(1, 21), integers(1, 15)
    top = (torch.rand(BATCH, generator=generator) * (21 - height)).long()
    left = (torch.rand(BATCH, generator=generator) * (15 - width)).long()
    flip = torch.arange(BATCH) % 3 == 0
    vertical = image_ops.resize_taps(top, height, 20, size)
    horizontal = image_ops.resize_taps(left, width, 14, size, flip)
    ours = image_ops.separable_filter(images, vertical, horizontal)
    boxes = torch.stack([top, left, height, width], dim=1).tolist()
    theirs = [
        oracle.resized_crop(image, *box, [size, size], antialias=True)
        for image, box in zip(images, boxes, strict=True)
    ]
    theirs = [
        oracle.horizontal_flip(image) if mirrored else image
        for image, mirrored in zip(theirs, flip, strict=True)
    ]
    assert error(ours, theirs) < 1e-5


def test_taps_of_a_part_of_the_axis(images: Tensor) -> None:
    start, length = torch.arange(BATCH) % 4 + 3, torch.full((BATCH,), 6)
    whole = image_ops.resize_taps(torch.zeros(BATCH), torch.full((BATCH,), 20.0), 20, 9)
    taps = image_ops.resize_taps(start, length, 14, 9)
    ours = image_ops.separable_filter(images[..., 3:12], whole, taps.relative_to(3))
    assert torch.equal(ours, image_ops.separable_filter(images, whole, taps))


def test_resize_takes_bytes(generator: Generator) -> None:
    images = torch.randint(256, (3, 1, 8, 10), dtype=torch.uint8, generator=generator)
    ours = image_ops.resize(images, 16)
    theirs = oracle.resize(images.float() / 255, [16, 16], antialias=True)
    assert ours.dtype == torch.float32
    assert error(ours, [*theirs]) < 1e-6
    same = image_ops.resize(images[..., :8], 8)
    assert torch.equal(same, images[..., :8].float() / 255)


@pytest.mark.parametrize("radius", [1, 3, 12], ids=["1", "3", "cut where the weights vanish"])
def test_gaussian_blur(images: Tensor, radius: int) -> None:
    sigma = torch.linspace(0.1, 2.0, BATCH)
    ours = image_ops.gaussian_blur(images, sigma, radius)
    theirs = [
        oracle.gaussian_blur(image, [2 * radius + 1] * 2, [float(s)] * 2)
        for image, s in zip(images, sigma, strict=True)
    ]
    assert error(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: image_ops.adjust_contrast_(x.clone(), torch.tensor([1.0, 0.5])),
        lambda x: image_ops.gaussian_blur(x, torch.tensor([1.0, 2.0]), 1),
        lambda x: image_ops.adjust_hue_(x.clone(), torch.tensor([0.1, 0.2])),
    ],
    ids=["contrast", "blur", "hue"],
)
def test_images_do_not_influence_one_another(operation: Callable[[Tensor], Tensor]) -> None:
    images = torch.rand(2, 3, 6, 6, generator=Generator().manual_seed(1))
    other = images.clone()
    other[1] = 0
    assert torch.equal(operation(images)[0], operation(other)[0])
