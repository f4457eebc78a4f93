"""What a training run is made of, as frozen data; every number of the recipe lives here.

Defaults are the paper's for CIFAR-10 (SimCLR, arXiv 2002.05709, appendices A and B.9), but for a
model, a batch and a number of epochs that a CPU can train. Nothing here needs the trainer's extra.
"""

from simclr_ext.trainer.config.augment import AugmentConfig
from simclr_ext.trainer.config.model import ModelConfig
from simclr_ext.trainer.config.monitor import MonitorConfig
from simclr_ext.trainer.config.optim import OptimConfig
from simclr_ext.trainer.config.presets import DEMO, PRESETS
from simclr_ext.trainer.config.train import TrainConfig

__all__ = [
    "DEMO",
    "PRESETS",
    "AugmentConfig",
    "ModelConfig",
    "MonitorConfig",
    "OptimConfig",
    "TrainConfig",
]
