"""The state of a training run, and the measurements of its epochs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from simclr_ext.options.errors import DivergedError
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.simclr import SimCLR, learned, not_finite
from simclr_ext.trainer.training.optim import Rewarm, build_optimizer, peak_learning_rate


@dataclass(frozen=True)
class Epoch:
    """The measurements of one epoch.

    Attributes:
        epoch: Epochs done, from 1.
        step: Steps done.
        loss: Mean loss over the epoch's batches.
        contrastive_accuracy: Share of views that are closest to their positive; like the next
            three, the mean over the measured batches.
        entropy: Entropy of the softmax over the other views, in nats.
        positive_similarity: Cosine similarity to the positive.
        negative_similarity: Cosine similarity to the negatives.
        embedding_std: Spread of z over the last batch: 1 if uniform on the sphere, 0 if collapsed.
        effective_rank: Number of dimensions that z of the last batch effectively uses.
        learning_rate: Learning rate of the epoch's last step.
        images_per_second: Training images (not views) per second of this epoch.
        seconds: Time spent on training so far.
        knn_accuracy: k-NN accuracy on held-out training images; None: not measured in this epoch.
        linear_accuracy: The same by a linear probe.
    """

    epoch: int
    step: int
    loss: float
    contrastive_accuracy: float
    entropy: float
    positive_similarity: float
    negative_similarity: float
    embedding_std: float
    effective_rank: float
    learning_rate: float
    images_per_second: float
    seconds: float
    knn_accuracy: float | None = None
    linear_accuracy: float | None = None


@dataclass
class Training:
    """Everything that changes during training, and that a checkpoint needs to resume it.

    There is no random state; see `seeds`.

    Attributes:
        model: Encoder and projection head.
        optimizer: The optimizer of its parameters.
        scaler: Scales the loss for fp16; disabled otherwise.
        step: Steps done.
        epochs: Measurements of the epochs done.
        seconds: Time spent on training.
        epoch_seconds: Time spent on the current epoch.
        totals: Sums over the current epoch: of the loss, and of accuracy, entropy and
            similarities over its measured steps.
        measured: Measured steps of the current epoch.
        rewarm: The second warmup of a run whose number of epochs has changed; None: it has none.
        latest: Loss and contrastive accuracy of the last measured step, for display.
        stop: Whether the training ends after this step; a callback may set it. Not part of the
            state to resume from.
    """

    model: SimCLR
    optimizer: torch.optim.Optimizer
    scaler: GradScaler
    step: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    totals: Tensor = field(default_factory=lambda: torch.zeros(5, dtype=torch.float64))
    measured: int = 0
    rewarm: Rewarm | None = None
    latest: dict[str, float] = field(default_factory=dict)
    stop: bool = False

    @classmethod
    def start(cls, model: SimCLR, config: ResolvedConfig) -> Training:
        """Return the state before the first step; the model is already on its device."""
        peak = peak_learning_rate(config.optim, config.batch_size)
        optimizer = build_optimizer(model, config.optim, peak)
        scaler = GradScaler(torch.device(config.device).type, enabled=config.precision == "fp16")
        return cls(model, optimizer, scaler)

    def measure(self, **values: Any) -> None:
        """Add measurements to those of the last epoch, by the names of `Epoch`."""
        self.epochs[-1] = replace(self.epochs[-1], **values)

    def is_best(self) -> bool:
        """Return whether the last epoch's k-NN accuracy exceeds all that were measured before."""
        *before, last = (epoch.knn_accuracy for epoch in self.epochs)
        return last is not None and all(found is None or last > found for found in before)

    def check_finite(self) -> None:
        """Raise DivergedError unless weights, running statistics and the optimizer are finite."""
        tensors = learned(self.model)
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{key} of {name}"] = value
        if broken := not_finite(tensors):
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            raise DivergedError(
                f"after step {self.step}, {broken[0]}{more} are not finite and are not saved, the "
                "last checkpoint is kept: try a lower optim.learning_rate"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the model's weights, for a checkpoint."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "totals": self.totals,
            "measured": self.measured,
            "rewarm": None if self.rewarm is None else asdict(self.rewarm),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: It is of another model; other errors: it is nothing of the kind.
        """
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, values in self.optimizer.state.items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.ndim > 0 and value.shape != parameter.shape:
                    shapes = f"{list(value.shape)} for a weight {list(parameter.shape)}"
                    raise ValueError(f"optimizer: {name} is {shapes}")
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.measured = state["step"], state["measured"]
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.seconds, self.epoch_seconds = state["seconds"], state["epoch_seconds"]
        self.totals = state["totals"].double()
        self.rewarm = None if state["rewarm"] is None else Rewarm(**state["rewarm"])
