"""A data set in memory, and its channels for a model. Files are in test_folder.py."""

import pytest
import torch
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.trainer.data import Dataset, Part


def dataset(channels: int) -> Dataset:
    images = torch.arange(5 * channels * 6, dtype=torch.uint8).view(5, channels, 2, 3)
    labels = torch.arange(5) % 2
    train, test = Part.of(images[:3], labels[:3]), Part.of(images[3:], labels[3:])
    return Dataset("tiny", train, test, ("even", "odd"))


def test_images_in_memory_are_unchanged() -> None:
    data = dataset(1)
    assert (data.channels, data.sides, data.too_large) == (1, (2, 3), None)
    assert data.at(64).train.images is data.train.images
    assert torch.equal(data.in_memory().test.images[:], data.test.images[:])


def test_a_range_of_images_shares_their_memory() -> None:
    images = torch.zeros(6, 1, 2, 2, dtype=torch.uint8)
    part = Part.of(images)
    middle = part.take(torch.tensor([2, 3, 4]))
    assert isinstance(middle.images, Tensor)
    assert middle.images.data_ptr() == images[2].data_ptr()
    assert middle.ids.tolist() == [b"2", b"3", b"4"]
    assert len(part.take(torch.arange(0))) == 0


def test_summary() -> None:
    train = Part.of(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, -1]))
    data = Dataset("tiny", train, dataset(1).test, ("even", "odd"), ("a.png: broken",))
    assert data.summary == (
        "tiny: 3 training images (2 with labels), 2 test images, 2 classes, "
        "1 broken images left out"
    )
    assert data.without_labels().summary.endswith(
        "no labels to evaluate with: no comparison and no k-NN accuracy"
    )


def test_gray_images_are_repeated_for_a_model_of_color() -> None:
    gray = dataset(1)
    assert gray.with_channels(1) is gray
    images = gray.with_channels(3).test.images
    assert isinstance(images, Tensor)
    assert images.shape == (2, 3, 2, 3)
    assert (images == gray.test.images[:]).all()


def test_other_channels_suit_no_other_model() -> None:
    with pytest.raises(DataError, match="takes 3 channels, but images of tiny have 5 channels"):
        dataset(5).with_channels(3)
    with pytest.raises(DataError, match="takes 4 channels, but images of tiny have 3 channels"):
        dataset(3).with_channels(4)


def test_color_does_not_suit_a_model_of_gray() -> None:
    with pytest.raises(DataError, match="takes gray images, but images of tiny have 3 channels"):
        dataset(3).with_channels(1)
