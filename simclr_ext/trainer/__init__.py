"""A SimCLR trainer on top of the loss.

>>> from simclr_ext.trainer import TrainConfig, train
>>> result = train(TrainConfig(data="digits"))  # doctest: +SKIP
"""

from simclr_ext.options.errors import MissingExtraError, UserError
from simclr_ext.trainer.api import (
    check_data,
    draw_pages,
    each_image,
    embed_images,
    evaluate_checkpoint,
    export_encoder,
    find_neighbors,
    finetune_checkpoint,
    load_encoder,
    resume,
    train,
)
from simclr_ext.trainer.config import (
    DEMO,
    PRESETS,
    AugmentConfig,
    CheckConfig,
    EmbedConfig,
    EvalConfig,
    ExportConfig,
    FinetuneConfig,
    ImagesConfig,
    ModelConfig,
    MonitorConfig,
    NeighborsConfig,
    OptimConfig,
    PagesConfig,
    SgdConfig,
    TrainConfig,
)
from simclr_ext.trainer.training.callbacks import Callback

__all__ = [
    "DEMO",
    "PRESETS",
    "AugmentConfig",
    "Callback",
    "CheckConfig",
    "EmbedConfig",
    "EvalConfig",
    "ExportConfig",
    "FinetuneConfig",
    "ImagesConfig",
    "MissingExtraError",
    "ModelConfig",
    "MonitorConfig",
    "NeighborsConfig",
    "OptimConfig",
    "PagesConfig",
    "SgdConfig",
    "TrainConfig",
    "UserError",
    "check_data",
    "draw_pages",
    "each_image",
    "embed_images",
    "evaluate_checkpoint",
    "export_encoder",
    "find_neighbors",
    "finetune_checkpoint",
    "load_encoder",
    "resume",
    "train",
]
