"""Scikit-learn's digits, which are part of its package."""

from __future__ import annotations

import numpy as np
import torch

from simclr_ext.trainer.data.dataset import Dataset, Part


def load_digits() -> Dataset:
    """Return scikit-learn's digits: 1,797 gray 8x8 images, a stratified fifth of them for test."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    digits = load()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # stored as 0..16
    # The split is part of the data set: its seed is fixed and is not the run's.
    split = train_test_split(
        images, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    train_images, test_images, train_labels, test_labels = split
    train, test = (
        Part.of(torch.from_numpy(images)[:, None], torch.from_numpy(labels).long())
        for images, labels in ((train_images, train_labels), (test_images, test_labels))
    )
    return Dataset("digits", train, test, tuple(str(digit) for digit in digits.target_names))
