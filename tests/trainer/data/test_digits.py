"""Scikit-learn's digits."""

import numpy as np
import torch

from simclr_ext.trainer.data import load_data


def test_digits_are_all_there_once_and_stratified() -> None:
    data = load_data("digits")
    assert (data.name, data.channels, data.class_names) == ("digits", 1, tuple("0123456789"))
    assert data.train.images.shape == (1437, 1, 8, 8)
    assert data.test.images.shape == (360, 1, 8, 8)
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert (int(data.train.images.min()), int(data.train.images.max())) == (0, 255)
    assert torch.bincount(data.test.labels).tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]

    from sklearn.datasets import load_digits

    ours = torch.cat([data.train.images, data.test.images]).flatten(1).numpy()
    theirs = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))


def test_the_split_does_not_change() -> None:
    first, second = load_data("digits"), load_data("digits")
    assert torch.equal(first.test.images, second.test.images)
    assert first.test.labels[:10].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3]
