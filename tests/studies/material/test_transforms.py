"""Transformations of views against oracles, and the use of their random numbers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from scipy import ndimage
from torch import Generator, Tensor

from simclr_ext.studies.material import transforms
from simclr_ext.trainer.seeds import generator

RANDOM = [transforms.cutout, transforms.random_rotate, transforms.gaussian_noise]
BATCH = 12


@pytest.fixture(params=[1, 3], ids=["gray", "color"])
def views(request: pytest.FixtureRequest) -> Tensor:
    return torch.rand(BATCH, request.param, 10, 10, generator=generator(0))


@pytest.mark.parametrize("transform", [*RANDOM, transforms.sobel], ids=lambda f: f.__name__)
def test_views_stay_views_and_what_came_in_is_left_alone(
    transform: Callable[[Tensor, Generator], Tensor], views: Tensor
) -> None:
    before = views.clone()
    after = transform(views, generator(1))
    assert torch.equal(views, before)
    assert (after.shape, after.dtype) == (views.shape, views.dtype)
    assert torch.equal(after, after.clamp(0, 1))
    assert not torch.equal(after, views)
    assert torch.equal(after, transform(views, generator(1)))
    assert torch.equal(after, transform(views, generator(2))) == (transform not in RANDOM)


@pytest.mark.parametrize("side", [1, 5, 10])
def test_cutout_covers_a_square_with_its_center_anywhere_in_the_view(side: int) -> None:
    views = torch.zeros(2000, 3, side, side)
    covered = transforms.cutout(views, generator(0)) == transforms.CUTOUT_VALUE
    assert torch.equal(covered[:, :1].expand_as(covered), covered)  # all channels
    covered = covered[:, 0]
    rows, columns = covered.any(dim=2), covered.any(dim=1)
    assert torch.equal(covered, rows[:, :, None] & columns[:, None, :])  # a rectangle
    length = max(1, round(side / 2))
    for interval in (rows, columns):
        sizes = interval.sum(dim=1)
        assert int(sizes.max()) == length
        # Every position of the center: at most half of the square extends beyond the view.
        assert int(sizes.min()) == math.ceil(length / 2)
        assert len(interval.unique(dim=0)) == side


def test_rotation_is_by_each_views_own_quarter_turns(views: Tensor) -> None:
    turns = torch.arange(BATCH) - 4
    theirs = [oracle.rotate(view, 90.0 * turn) for view, turn in zip(views, turns, strict=True)]
    assert torch.equal(transforms.rotate(views, turns), torch.stack(theirs))


def test_every_rotation_is_as_likely_as_another() -> None:
    views = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]).expand(4000, 1, 2, 2)
    corner = transforms.random_rotate(views, generator(0))[:, 0, 0, 0]
    counts = torch.bincount(corner.long(), minlength=4)
    assert float((counts - 1000).abs().max()) < 4 * math.sqrt(4000 * 3 / 16)


def test_sobel_is_the_gradient_of_the_luma(views: Tensor) -> None:
    luma = oracle.rgb_to_grayscale(views)[:, 0] if views.shape[1] == 3 else views[:, 0]
    for after, image in zip(transforms.sobel(views), luma.double().numpy(), strict=True):
        slopes = [ndimage.sobel(image, axis, mode="nearest") for axis in (0, 1)]
        expected = np.minimum(np.hypot(*slopes) / 4, 1)
        for channel in after:
            np.testing.assert_allclose(channel, expected, rtol=1e-5, atol=1e-6)


def test_sobel_is_1_at_a_straight_step_and_0_where_all_is_even() -> None:
    views = torch.zeros(1, 1, 4, 6)
    views[..., 3:] = 1
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 0.0]).expand(1, 1, 4, 6)
    assert torch.equal(transforms.sobel(views), expected)


def test_noise_has_its_deviation_and_is_every_values_own() -> None:
    views = torch.full((100, 3, 10, 10), 0.5)
    noise = transforms.gaussian_noise(views, generator(0)) - views
    assert float(noise.std()) == pytest.approx(transforms.NOISE_STD, rel=0.02)
    assert abs(float(noise.mean())) < 4 * transforms.NOISE_STD / math.sqrt(noise.numel())
    assert len(noise.unique()) > 0.9 * noise.numel()


def test_grayscale(views: Tensor) -> None:
    if views.shape[1] == 1:
        pytest.skip("gray images have no color")
    before = views.clone()
    expected = oracle.rgb_to_grayscale(views, num_output_channels=3)
    torch.testing.assert_close(transforms.grayscale(views), expected)
    assert torch.equal(views, before)


def test_compose_goes_in_order(views: Tensor) -> None:
    both = transforms.compose([transforms.cutout, transforms.sobel])(views, generator(0))
    assert torch.equal(both, transforms.sobel(transforms.cutout(views, generator(0))))
    assert torch.equal(transforms.compose([])(views, generator(0)), views)
