"""Contrastive training: two views of every image, NT-Xent on their projections, LARS."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from simclr_ext import NTXentLoss
from simclr_ext.trainer.augment import Augment
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.errors import DataError, DivergedError
from simclr_ext.trainer.model import SimCLR
from simclr_ext.trainer.optim import build_lars, peak_learning_rate, schedule


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured.

    Attributes:
        epoch: Epochs done, from 1.
        step: Steps done.
        loss: Mean loss over the epoch's batches.
        learning_rate: That of the epoch's last step.
        images_per_second: Training images (not views) per second of this epoch.
        seconds: Time since the start of the training.
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    images_per_second: float
    seconds: float


def pretrain(model: SimCLR, images: Tensor, config: TrainConfig) -> Iterator[Epoch]:
    """Train a model in place, and yield after every epoch.

    Args:
        model: Encoder and projection head, on the device to train on.
        images: [n, C, H, W] uint8, on the same device; n >= the batch size.
        config: The run, resolved.

    Yields:
        The epoch's measurements; the model then holds that epoch's weights.

    Raises:
        DataError: There are fewer images than a batch takes.
        DivergedError: The loss is not finite.
    """
    size, count = config.batch_size, len(images)
    check_batch_size(size, count)
    steps = count // size  # the incomplete batch is dropped: NT-Xent depends on N
    total_steps, warmup_steps = config.epochs * steps, config.optim.warmup_epochs * steps
    peak = peak_learning_rate(config.optim, size)
    optimizer = build_lars(model, config.optim, peak)
    loss_of = NTXentLoss(config.temperature)
    augment = Augment(config.augment, config.side)
    generator = torch.Generator(images.device).manual_seed(config.seed)

    step, start = 0, time.perf_counter()
    with _progress_bar(total_steps * size) as bar:
        for epoch in range(1, config.epochs + 1):
            model.train()  # whoever takes the epochs may have evaluated in between
            epoch_start = time.perf_counter()
            losses = torch.zeros((), device=images.device)  # summed there: no wait for every step
            order = torch.randperm(count, device=images.device, generator=generator)
            for rows in order[: steps * size].view(steps, size):
                batch = images[rows]  # [N, C, H, W]
                views = torch.cat([augment(batch, generator), augment(batch, generator)])
                _, z = model(views)  # [2N, projection_dim]
                loss = loss_of(*z.chunk(2))
                optimizer.zero_grad()
                loss.backward()
                for group in optimizer.param_groups:
                    group["lr"] = peak * schedule(step, total_steps, warmup_steps)
                optimizer.step()
                losses += loss.detach()
                step += 1
                bar.update(size)

            mean_loss = losses.item() / steps
            if not math.isfinite(mean_loss):
                raise DivergedError(
                    f"the loss of epoch {epoch} is {mean_loss}: try an optim.learning_rate below "
                    f"{config.optim.learning_rate:g}"
                )
            bar.set_postfix(epoch=f"{epoch}/{config.epochs}", loss=f"{mean_loss:.3f}")
            now = time.perf_counter()
            speed = steps * size / (now - epoch_start)
            rate = optimizer.param_groups[0]["lr"]
            yield Epoch(epoch, step, mean_loss, rate, speed, now - start)


def check_batch_size(batch_size: int, images: int) -> None:
    """Raise DataError if a batch takes more images than there are."""
    if batch_size > images:
        raise DataError(
            f"batch_size must be at most the {images} training images, got {batch_size}"
        )


def _progress_bar(total: int) -> tqdm[None]:
    # A log file gets a line now and then, a terminal a bar that moves.
    seconds = 0.2 if sys.stderr.isatty() else 20
    return tqdm(total=total, desc="training", unit=" images", unit_scale=True, mininterval=seconds)
