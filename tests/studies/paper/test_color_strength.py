"""The distortions of table 1, and the supervised column."""

import dataclasses

import torch

from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.engine.scales import open_context
from simclr_ext.studies.paper.color_strength import _augmentation, _supervised
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.seeds import generator

CONFIG = TrainConfig(image_size=16).resolve(3, 16, 16)


def views(distortion: str, seed: int = 0) -> torch.Tensor:
    images = torch.randint(256, (64, 3, 16, 16), dtype=torch.uint8, generator=generator(7))
    return _augmentation(distortion, CONFIG)(images, generator(seed))


def test_equal_seeds_give_equal_views_and_the_global_state_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for distortion in ("1/8", "1 + blur", "AutoAugment"):
        first = views(distortion)
        assert first.shape == (64, 3, 16, 16)
        assert (float(first.min()) >= 0, float(first.max()) <= 1) == (True, True)
        assert torch.equal(first, views(distortion))
        assert not torch.equal(first, views(distortion, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_stronger_distortions_change_colors_more() -> None:
    means = [views(name).mean(dim=(1, 2, 3)).std() for name in ("1/8", "1/4", "1/2", "1")]
    assert means == sorted(means)


def test_blur_and_autoaugment_change_views_of_the_same_crops() -> None:
    sharp, blurred = views("1"), views("1 + blur")
    changed = (sharp != blurred).flatten(1).any(dim=1).float().mean()
    assert 0.3 < changed < 0.7  # half of them
    plain = dataclasses.replace(CONFIG.augment, jitter_probability=0.0, grayscale_probability=0.0)
    crops = _augmentation("1", dataclasses.replace(CONFIG, augment=plain))
    images = torch.randint(256, (64, 3, 16, 16), dtype=torch.uint8, generator=generator(7))
    same = (views("AutoAugment") - crops(images, generator(0))).abs().amax(dim=(1, 2, 3))
    assert 0.3 < (same > 0.1).float().mean() < 1  # the policy does not change some views


def test_training_with_labels_learns() -> None:
    context = open_context(StudyConfig("color-strength"))
    gentle = dataclasses.replace(context.config.augment, crop_area=(0.5, 1.0))
    config = dataclasses.replace(context.config, epochs=60, batch_size=16, augment=gentle)
    accuracy = _supervised(_augmentation("1/8", config), context.data, config)
    assert 0.5 < accuracy <= 1  # chance is 0.1
