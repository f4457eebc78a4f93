"""Splits: a share of every class, and a training image of each."""

import numpy as np
import pytest

from simclr_ext.trainer.data.split import NO_LABEL, held_out


@pytest.mark.parametrize("share", [0.01, 0.5, 0.75, 0.8, 0.999])
def test_every_class_keeps_a_training_image(share: float) -> None:
    sizes = np.array([1, 2, 3, 10, 400])
    labels = np.concatenate([np.repeat(np.arange(5), sizes), np.full(7, NO_LABEL)])
    rows = held_out(labels, share, seed=0)
    assert len(np.unique(rows)) == len(rows)
    taken = np.bincount(labels[rows], minlength=5)
    nearest = np.round(share * sizes)
    assert taken.tolist() == np.clip(nearest, 1, sizes - 1).tolist()
