"""Contrastive training: two views of every image, NT-Xent on their projections."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from simclr_ext import NTXentLoss
from simclr_ext.diagnostics import contrastive_metrics, effective_rank, embedding_std
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.errors import DivergedError
from simclr_ext.trainer.gradient import Forward, Loss, halves, one_pass, two_pass
from simclr_ext.trainer.model import SimCLR
from simclr_ext.trainer.optim import build_optimizer, peak_learning_rate, schedule
from simclr_ext.trainer.seeds import Stream, derive_seed, seeded
from simclr_ext.trainer.source import Source

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured.

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
        effective_rank: Dimensions that z of the last batch really uses.
        learning_rate: That of the epoch's last step.
        images_per_second: Training images (not views) per second of this epoch.
        seconds: Time spent on training so far.
        knn_accuracy: Of held-out training images; None: not measured after this epoch.
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


@dataclass
class Training:
    """What changes while a run trains: all that a checkpoint must hold to go on from it.

    Random numbers have no part in it; see `seeds`.

    Attributes:
        model: Encoder and projection head.
        optimizer: The optimiser of its parameters.
        scaler: Scales the loss for fp16; disabled otherwise.
        step: Steps done.
        epochs: Measurements of the epochs done.
        seconds: Time spent on training.
        epoch_seconds: Time spent on the epoch that is going on.
        totals: Sums over the epoch that is going on: of the loss, and of accuracy, entropy and
            similarities over its measured steps.
        measured: Measured steps of the epoch that is going on.
        latest: Loss and contrastive accuracy of the last measured step, for the progress bar.
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
    latest: dict[str, float] = field(default_factory=dict)

    @classmethod
    def start(cls, model: SimCLR, config: TrainConfig) -> Training:
        """Return the state before the first step of a model that is on its device."""
        peak = peak_learning_rate(config.optim, config.batch_size)
        optimizer = build_optimizer(model, config.optim, peak)
        scaler = GradScaler(torch.device(config.device).type, enabled=config.precision == "fp16")
        return cls(model, optimizer, scaler)

    def measure_knn(self, accuracy: float) -> None:
        """Add the k-NN accuracy to the measurements of the last epoch."""
        self.epochs[-1] = replace(self.epochs[-1], knn_accuracy=accuracy)

    def is_best(self) -> bool:
        """Return whether the last epoch's k-NN accuracy exceeds that of all before."""
        found = [epoch.knn_accuracy or 0.0 for epoch in self.epochs]
        return found[-1] > max(found[:-1], default=-1.0)

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
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.measured = state["step"], state["measured"]
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.seconds, self.epoch_seconds = state["seconds"], state["epoch_seconds"]
        self.totals = state["totals"]


def pretrain(
    training: Training, source: Source, config: TrainConfig, loss: Loss | None = None
) -> Iterator[Training]:
    """Train in place until the run's last step, from wherever the state is.

    Args:
        training: The state, with a model on the run's device.
        source: Batches and views.
        config: The run, resolved.
        loss: Of the projections of the first and of the second views, [N, D] each; None: NT-Xent
            at the run's temperature.

    Yields:
        The state after every step; after an epoch's last step, with its measurements.

    Raises:
        DivergedError: The loss is not finite.
    """
    model, optimizer, scaler = training.model, training.optimizer, training.scaler
    total_steps, warmup = config.epochs * source.steps, config.optim.warmup_epochs * source.steps
    peak = peak_learning_rate(config.optim, config.batch_size)
    loss_of = NTXentLoss(config.temperature) if loss is None else loss
    network: Callable[..., Any] = torch.compile(model) if config.compile else model
    while training.step < total_steps:
        epoch, skip = divmod(training.step, source.steps)
        clock = time.perf_counter()
        for batch in source.batches(epoch, skip):
            model.train()  # whoever takes the steps may have evaluated in between
            for group in optimizer.param_groups:
                group["lr"] = peak * schedule(training.step, total_steps, warmup)
            forward = _forward(network, source, config, training.step)
            if config.micro_batch is None:
                value, z = one_pass(forward, batch, loss_of, scaler)
            else:
                chunk = config.micro_batch
                value, z = two_pass(forward, batch, loss_of, scaler, micro_batch=chunk, model=model)
            if config.optim.clip_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            _measure(training, value, z, source.steps, config)
            training.epoch_seconds += time.perf_counter() - clock
            if training.step % source.steps == 0:
                _finish_epoch(training, z, source.steps, config)
            yield training
            clock = time.perf_counter()


def _forward(
    network: Callable[..., Any], source: Source, config: TrainConfig, step: int
) -> Forward:
    """Return the function of a step's chunks to z, [2n, D] float32.

    z leaves autocast in float32: the loss computes in float32 anyway, and so its gradient is not
    rounded to half precision before it reaches the network.
    """
    device = torch.device(config.device)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    mixed = config.precision != "fp32"

    def forward(chunk: Tensor, index: int) -> Tensor:
        seed = derive_seed(config.seed, Stream.VIEWS, step, index)
        views = source.views(chunk, seed).contiguous(memory_format=layout)
        with seeded(seed, device), torch.autocast(device.type, _DTYPES[config.precision], mixed):
            z: Tensor = network(views)[1]
        return z.float()

    return forward


def _measure(training: Training, loss: Tensor, z: Tensor, steps: int, config: TrainConfig) -> None:
    """Count a step; sums stay on the device, so that not every step waits for it."""
    training.totals = training.totals.to(z.device)
    training.totals[0] += loss
    if training.step % steps % config.monitor.metrics_every == 0:
        metrics = contrastive_metrics(*halves(z), config.temperature)
        training.totals[1:] += torch.stack(metrics)
        training.measured += 1
        training.latest = {"loss": loss.item(), "accuracy": metrics.accuracy.item()}
        _check_finite(training.latest["loss"], training.step // steps + 1, config)
    training.step += 1


def _finish_epoch(training: Training, z: Tensor, steps: int, config: TrainConfig) -> None:
    """Turn the sums into the epoch's measurements."""
    loss, *metrics = training.totals.tolist()
    _check_finite(loss, training.step // steps, config)
    training.seconds += training.epoch_seconds
    accuracy, entropy, positive, negative = (value / training.measured for value in metrics)
    training.epochs.append(
        Epoch(
            epoch=training.step // steps,
            step=training.step,
            loss=loss / steps,
            contrastive_accuracy=accuracy,
            entropy=entropy,
            positive_similarity=positive,
            negative_similarity=negative,
            embedding_std=embedding_std(z),
            effective_rank=effective_rank(z),
            learning_rate=training.optimizer.param_groups[0]["lr"],
            images_per_second=steps * config.batch_size / training.epoch_seconds,
            seconds=training.seconds,
        )
    )
    training.totals = torch.zeros_like(training.totals)
    training.measured, training.epoch_seconds = 0, 0.0


def _check_finite(loss: float, epoch: int, config: TrainConfig) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss of epoch {epoch} is {loss}: try an optim.learning_rate below "
            f"{config.optim.learning_rate:g}"
        )
