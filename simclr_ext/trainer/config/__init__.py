"""The options of the trainer's commands, as frozen dataclasses, with every number of the recipe.

Defaults are the paper's for CIFAR-10 (SimCLR, arXiv 2002.05709, appendices A and B.9), except for a
model, a batch and a number of epochs that a CPU can train. Nothing here needs the trainer's extra.
"""

from simclr_ext.trainer.config.augment import AugmentConfig
from simclr_ext.trainer.config.commands import (
    CheckConfig,
    EmbedConfig,
    EvalConfig,
    ExportConfig,
    FinetuneConfig,
    NeighborsConfig,
    PagesConfig,
    SgdConfig,
)
from simclr_ext.trainer.config.images import ImagesConfig
from simclr_ext.trainer.config.model import ModelConfig
from simclr_ext.trainer.config.monitor import MonitorConfig
from simclr_ext.trainer.config.optim import OptimConfig
from simclr_ext.trainer.config.presets import DEMO, PRESETS
from simclr_ext.trainer.config.train import CHANGEABLE, ResolvedConfig, TrainConfig

__all__ = [
    "CHANGEABLE",
    "DEMO",
    "PRESETS",
    "AugmentConfig",
    "CheckConfig",
    "EmbedConfig",
    "EvalConfig",
    "ExportConfig",
    "FinetuneConfig",
    "ImagesConfig",
    "ModelConfig",
    "MonitorConfig",
    "NeighborsConfig",
    "OptimConfig",
    "PagesConfig",
    "ResolvedConfig",
    "SgdConfig",
    "TrainConfig",
]
