"""Optimizers, including LARS, and the learning rate schedule.

LARS (You et al., arXiv 1708.03888, algorithm 1) gives every layer its own rate:

    v <- momentum v + lr trust (g + decay w),   trust = coefficient |w| / (|g| + decay |w|)
    w <- w - v

Biases and batch-norm parameters have trust = 1 and decay = 0 (SimCLR, arXiv 2002.05709, 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from simclr_ext.trainer.config import OptimConfig, ResolvedConfig


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling with momentum.

    Args:
        params: Parameters, or groups of them; a group may set any of the values below, and
            `adapt=False` for parameters without a trust ratio.
        lr: Learning rate.
        momentum: Momentum in [0, 1).
        weight_decay: L2 penalty.
        trust_coefficient: Ratio of a layer's update to the norm of its weights.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        update = grad + decay * weight
        if group["adapt"]:
            weight_norm, grad_norm = weight.norm(), grad.norm()
            trust = group["trust_coefficient"] * weight_norm / (grad_norm + decay * weight_norm)
            # A layer of zeros would stay zero, and a zero gradient would divide by zero.
            update *= torch.where((weight_norm > 0) & (grad_norm > 0), trust, 1.0)
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        velocity = state["momentum_buffer"]
        velocity.mul_(group["momentum"]).add_(update, alpha=group["lr"])
        weight.sub_(velocity)


def build_optimizer(model: nn.Module, config: OptimConfig, lr: float) -> torch.optim.Optimizer:
    """Return the optimizer of a model's parameters, at the given rate.

    Biases and batch-norm parameters have their own group, without decay and, for LARS, without
    adaptation (see `OptimConfig.exclude`).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    excluded = [p for p in parameters if p.ndim <= 1 and config.exclude == "bias_and_norm"]
    left_out = set(map(id, excluded))
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if id(p) not in left_out]},
        {"params": excluded, "weight_decay": 0.0},
    ]
    decay = config.weight_decay
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr, config.momentum, weight_decay=decay, nesterov=config.nesterov
        )
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr, config.betas, weight_decay=decay)
    groups[1]["adapt"] = False
    return LARS(groups, lr, config.momentum, decay, config.trust_coefficient)


def peak_learning_rate(config: OptimConfig, batch_size: int) -> float:
    """Return the rate at the end of the warmup for batches of N images (appendix B.1)."""
    scale = {"linear": batch_size / 256, "sqrt": math.sqrt(batch_size), "none": 1.0}
    return config.learning_rate * scale[config.scaling]


def schedule(step: int, total_steps: int, warmup_steps: int) -> float:
    """Return the learning rate of a step as a fraction of its peak.

    Args:
        step: Step in [0, total_steps).
        total_steps: Steps of the whole run.
        warmup_steps: Steps of the linear warmup; the last of them is at the peak.

    Returns:
        A fraction in (0, 1]: linear warmup, then a cosine that would reach 0 at `total_steps`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Rewarm:
    """A second warmup, with which a run continues on the curve of another number of epochs.

    Attributes:
        start: Its first step.
        steps: Its number of steps, in which the rate moves on a straight line to the curve; the
            last of them is on it.
        rate: The rate before its first step.
    """

    start: int
    steps: int
    rate: float


def learning_rate(
    step: int, config: ResolvedConfig, epoch_steps: int, rewarm: Rewarm | None = None
) -> float:
    """Return the learning rate of a step.

    Args:
        step: Step in [0, all of the run's).
        config: The run.
        epoch_steps: Steps of an epoch.
        rewarm: The second warmup; None: there is none.
    """
    if rewarm is not None and rewarm.start <= step < rewarm.start + rewarm.steps:
        target = learning_rate(rewarm.start + rewarm.steps - 1, config, epoch_steps)
        share = (step - rewarm.start + 1) / rewarm.steps
        return rewarm.rate + share * (target - rewarm.rate)
    total, warmup = config.epochs * epoch_steps, round(config.warmup_epochs * epoch_steps)
    peak = peak_learning_rate(config.optim, config.batch_size)
    return peak * schedule(step, total, warmup)
