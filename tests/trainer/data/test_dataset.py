"""A data set in memory, and its channels for a model. Files are in test_folder.py."""

import dataclasses

import pytest
import torch
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import Dataset


def dataset(channels: int) -> Dataset:
    images = torch.arange(5 * channels * 6, dtype=torch.uint8).view(5, channels, 2, 3)
    labels = torch.arange(5) % 2
    return Dataset("tiny", images[:3], labels[:3], images[3:], labels[3:], ("even", "odd"))


def test_images_in_memory_are_unchanged() -> None:
    data = dataset(1)
    assert (data.channels, data.sides, data.too_large) == (1, (2, 3), None)
    assert data.at(64).train_images is data.train_images
    assert torch.equal(data.in_memory().test_images[:], data.test_images[:])


def test_unlabeled_images_are_those_to_pretrain_on() -> None:
    data = dataset(3)
    assert data.pretrain_images is data.train_images
    more = torch.zeros(9, 3, 2, 3, dtype=torch.uint8)
    assert dataclasses.replace(data, unlabeled=more).pretrain_images is more


def test_gray_images_are_repeated_for_a_model_of_color() -> None:
    gray = dataset(1)
    assert gray.with_channels(1) is gray
    images = gray.with_channels(3).test_images
    assert isinstance(images, Tensor)
    assert images.shape == (2, 3, 2, 3)
    assert (images == gray.test_images[:]).all()


def test_color_does_not_suit_a_model_of_gray() -> None:
    with pytest.raises(DataError, match="takes gray images, but those of tiny have color"):
        dataset(3).with_channels(1)
