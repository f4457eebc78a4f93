"""The random parameters of views, against torchvision's distributions."""

import dataclasses
import itertools

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import ColorJitter
from torchvision.transforms.v2 import RandomResizedCrop

from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.views.parameters import draw_parameters, random_crop

MANY = 4000
# A frequency's standard error is at most 0.008 here: five of them.
TOLERANCE = 0.04
CONFIG = AugmentConfig(flip_probability=0.3, blur_probability=0.6, jitter_strength=0.5)


def assert_same_distribution(ours: Tensor, theirs: Tensor, name: str) -> None:
    """Compare two samples of this size by the largest gap between their distributions."""
    grid = torch.cat([ours, theirs]).unique()
    gap = (ours <= grid[:, None]).double().mean(1) - (theirs <= grid[:, None]).double().mean(1)
    assert gap.abs().max() < 1.5 * TOLERANCE, name


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
    config = dataclasses.replace(CONFIG, crop_area=area, crop_ratio=ratio)
    ours = torch.stack(random_crop(MANY, height, width, config, generator), dim=1).double()
    top, left, h, w = ours.unbind(dim=1)
    assert bool(((top >= 0) & (left >= 0) & (h > 0) & (w > 0)).all())
    assert bool(((top + h <= height) & (left + w <= width)).all())

    torch.manual_seed(0)
    crop = RandomResizedCrop(8, scale=area, ratio=ratio)
    image = torch.zeros(1, height, width)
    drawn = [crop.make_params([image]) for _ in range(MANY)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).double()
    for column, name in enumerate(["top", "left", "height", "width"]):
        assert_same_distribution(ours[:, column], theirs[:, column], name)


def test_jitter_is_distributed_as_torchvisions(generator: Generator) -> None:
    drawn = draw_parameters(CONFIG, (MANY, 3, 8, 8), generator)
    strong, weak = (0.6, 1.4), (-0.1, 0.1)
    torch.manual_seed(0)
    params = [ColorJitter.get_params(strong, strong, strong, weak) for _ in range(MANY)]
    names = ["brightness", "contrast", "saturation", "hue"]
    for step, name in enumerate(names):
        theirs = torch.tensor([float(p[1 + step]) for p in params])
        assert_same_distribution(drawn.factors[step], theirs, name)
    jittered = drawn.order[:, 0] >= 0
    assert abs(float(jittered.double().mean()) - 0.8) < TOLERANCE
    assert bool((drawn.order[~jittered] == -1).all())
    # Each of the 24 orders is equally frequent, as with torchvision's `randperm`.
    orders, counts = drawn.order[jittered].unique(dim=0, return_counts=True)
    assert sorted(map(tuple, orders.tolist())) == sorted(itertools.permutations(range(4)))
    assert float((counts / jittered.sum() - 1 / 24).abs().max()) < TOLERANCE / 2


def test_choices_are_independent_and_as_frequent_as_asked(generator: Generator) -> None:
    drawn = draw_parameters(CONFIG, (MANY, 3, 8, 8), generator)
    choices = {"flip": (drawn.flip, 0.3), "gray": (drawn.grayscale, 0.2), "blur": (drawn.blur, 0.6)}
    for name, (chosen, probability) in choices.items():
        assert abs(float(chosen.double().mean()) - probability) < TOLERANCE, name
    for (_, (one, p)), (_, (other, q)) in itertools.combinations(choices.items(), 2):
        assert abs(float((one & other).double().mean()) - p * q) < TOLERANCE
    uniform = torch.linspace(0.1, 2.0, MANY)
    assert_same_distribution(drawn.sigma, uniform, "sigma")


def test_gray_images_have_no_color_to_change(generator: Generator) -> None:
    drawn = draw_parameters(CONFIG, (50, 1, 8, 8), generator)
    assert drawn.factors.shape == (2, 50)
    assert drawn.order.max() == 1
    assert not drawn.grayscale.any()


def test_crops_can_be_left_out(generator: Generator) -> None:
    config = dataclasses.replace(CONFIG, crop_probability=0)
    top, left, height, width = random_crop(9, 5, 7, config, generator)
    assert (int(top.max()), int(left.max())) == (0, 0)
    assert (height.unique().tolist(), width.unique().tolist()) == ([5], [7])
