"""The options of what a run measures and saves during training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simclr_ext.options.checks import check, check_at_least, check_null_or_at_least, check_types

Logger = Literal["csv", "tensorboard", "jsonl", "wandb", "mlflow"]


@dataclass(frozen=True)
class MonitorConfig:
    """What a run measures and saves during training.

    Attributes:
        metrics_every: Steps between measurements of contrastive accuracy, entropy and similarities;
            every epoch has at least one.
        knn_every: Epochs between measurements of the k-NN accuracy on held-out training images; 0:
            never.
        linear_every: The same for the accuracy of a linear probe on their frozen h.
        checkpoint_epochs: Epochs between checkpoints; the last epoch always writes one.
        checkpoint_steps: Steps between additional checkpoints; null: none.
        keep_epochs: Epochs between checkpoints that are kept; null: only the last and the best are.
        loggers: Where measurements are written: "csv" (metrics.csv), "jsonl" (metrics.jsonl),
            "tensorboard", "wandb" (Weights & Biases), "mlflow".
    """

    metrics_every: int = 10
    knn_every: int = 10
    linear_every: int = 0
    checkpoint_epochs: int = 1
    checkpoint_steps: int | None = None
    keep_epochs: int | None = None
    loggers: tuple[Logger, ...] = ("csv", "tensorboard")

    def __post_init__(self) -> None:
        check_types(self, "monitor.")
        check_at_least("monitor.metrics_every", self.metrics_every, 1)
        check_at_least("monitor.knn_every", self.knn_every, 0)
        check_at_least("monitor.linear_every", self.linear_every, 0)
        check_at_least("monitor.checkpoint_epochs", self.checkpoint_epochs, 1)
        for name in ("checkpoint_steps", "keep_epochs"):
            check_null_or_at_least(f"monitor.{name}", getattr(self, name), 1)
        once = len(set(self.loggers)) == len(self.loggers)
        check(once, "monitor.loggers", self.loggers, "without repetitions")
