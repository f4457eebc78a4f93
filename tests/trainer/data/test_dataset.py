"""A data set in memory: what it takes to suit a model. Files are in test_folder.py."""

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


def test_images_in_memory_stay_as_they_are() -> None:
    data = dataset(1)
    assert (data.channels, data.sides, data.too_large) == (1, (2, 3), None)
    assert data.at(64).train_images is data.train_images
    assert torch.equal(data.in_memory().test_images[:], data.test_images[:])


def test_unlabelled_images_are_those_to_pretrain_on() -> None:
    data = dataset(3)
    assert data.pretrain_images is data.train_images
    more = torch.zeros(9, 3, 2, 3, dtype=torch.uint8)
    assert dataclasses.replace(data, unlabelled=more).pretrain_images is more


def test_grey_images_are_repeated_for_a_model_of_colour() -> None:
    grey = dataset(1)
    assert grey.with_channels(1) is grey
    images = grey.with_channels(3).test_images
    assert isinstance(images, Tensor)
    assert images.shape == (2, 3, 2, 3)
    assert (images == grey.test_images[:]).all()


def test_colour_does_not_suit_a_model_of_grey() -> None:
    with pytest.raises(DataError, match="takes grey images, and those of tiny are coloured"):
        dataset(3).with_channels(1)
