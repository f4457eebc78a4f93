"""The optimizer and its learning rate schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simclr_ext.options.checks import (
    check,
    check_at_least,
    check_null_or_at_least,
    check_positive,
    check_types,
)


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning rate schedule (section 2.2, appendix B.1).

    Attributes:
        name: "lars" (the paper's), "sgd" or "adamw".
        learning_rate: Base rate, which `scaling` turns into the peak rate.
        scaling: Peak rate from the batch size N: "linear", rate * N / 256 (the paper's base: 0.3),
            "sqrt", rate * sqrt(N) (0.075; better for small batches and short runs), or "none",
            the base rate unchanged.
        warmup_epochs: Epochs of linear warmup; a cosine decay to 0 follows, both by step. Null: 10
            (the paper's), or a tenth of the run's epochs if that is less.
        momentum: Momentum of LARS and SGD.
        nesterov: Whether SGD uses Nesterov momentum.
        betas: Decay rates of AdamW's moments.
        weight_decay: L2 penalty (LARS, SGD) or decoupled decay (AdamW).
        exclude: Parameters without decay and without LARS' adaptation: "bias_and_norm" (all of at
            most one dimension; the paper's), or "nothing".
        trust_coefficient: LARS' ratio of a layer's update to the norm of its weights.
        clip_norm: Maximum norm of the gradient over all parameters; null: no clipping.
    """

    name: Literal["lars", "sgd", "adamw"] = "lars"
    learning_rate: float = 0.075
    scaling: Literal["linear", "sqrt", "none"] = "sqrt"
    warmup_epochs: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-6
    exclude: Literal["bias_and_norm", "nothing"] = "bias_and_norm"
    trust_coefficient: float = 0.001
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        check_types(self, "optim.")
        check_positive("optim.learning_rate", self.learning_rate)
        check_null_or_at_least("optim.warmup_epochs", self.warmup_epochs, 0)
        check(0 <= self.momentum < 1, "optim.momentum", self.momentum, "in [0, 1)")
        if self.nesterov:
            ok = self.name == "sgd" and self.momentum > 0
            check(ok, "optim.nesterov", True, 'false unless optim.name is "sgd" with a momentum')
        ok = all(0 <= beta < 1 for beta in self.betas)
        check(ok, "optim.betas", self.betas, "two numbers in [0, 1)")
        check_at_least("optim.weight_decay", self.weight_decay, 0)
        check_positive("optim.trust_coefficient", self.trust_coefficient)
        if self.clip_norm is not None:
            check_positive("optim.clip_norm", self.clip_norm)
