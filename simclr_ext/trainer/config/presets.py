"""Recipes by name."""

from __future__ import annotations

from simclr_ext.trainer.config.augment import AugmentConfig
from simclr_ext.trainer.config.train import TrainConfig

DEMO = TrainConfig(
    data="digits",
    epochs=200,
    augment=AugmentConfig(crop_area=(0.2, 1.0), blur_probability=0.5),
)
"""Scikit-learn's digits in two minutes on two CPU cores: the paper's recipe but for the least area
of the crop (a smaller piece of a digit is a stroke that many digits share) and the blur; see
docs/trainer.md for how they were chosen."""
