"""The optimiser and its learning rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from simclr_ext.trainer.config.checks import check, check_types


@dataclass(frozen=True)
class OptimConfig:
    """LARS and its learning rate schedule (section 2.2, appendix B.1).

    Attributes:
        learning_rate: Base rate, which `scaling` turns into the peak rate.
        scaling: Peak rate from the batch size N: "linear", rate * N / 256 (the paper's base: 0.3),
            or "sqrt", rate * sqrt(N) (0.075; better for small batches and short runs).
        warmup_epochs: Epochs of linear warmup; a cosine decay to 0 follows.
        momentum: Momentum of the update.
        weight_decay: L2 penalty on weights; biases and batch-norm parameters have none.
        trust_coefficient: LARS' ratio of a layer's update to the norm of its weights.
    """

    learning_rate: float = 0.075
    scaling: Literal["linear", "sqrt"] = "sqrt"
    warmup_epochs: int = 10
    momentum: float = 0.9
    weight_decay: float = 1e-6
    trust_coefficient: float = 0.001

    def __post_init__(self) -> None:
        check_types(self, "optim.")
        rate = self.learning_rate
        check(0 < rate < math.inf, "optim.learning_rate", rate, "positive and finite")
        ok = self.scaling in ("linear", "sqrt")
        check(ok, "optim.scaling", self.scaling, '"linear" or "sqrt"')
        check(self.warmup_epochs >= 0, "optim.warmup_epochs", self.warmup_epochs, "at least 0")
        check(0 <= self.momentum < 1, "optim.momentum", self.momentum, "in [0, 1)")
        decay = self.weight_decay
        check(0 <= decay < math.inf, "optim.weight_decay", decay, "at least 0 and finite")
        trust = self.trust_coefficient
        check(0 < trust < math.inf, "optim.trust_coefficient", trust, "positive and finite")
