"""Contrastive training: two views of every image, NT-Xent on their projections."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from simclr_ext.diagnostics import effective_rank, embedding_std
from simclr_ext.options.errors import DivergedError
from simclr_ext.trainer.config import OptimConfig, ResolvedConfig
from simclr_ext.trainer.job import Job
from simclr_ext.trainer.model.layout import memory_format
from simclr_ext.trainer.seeds import Stream, derive_seed, seeded
from simclr_ext.trainer.training.gradient import Forward, Loss, one_pass, two_pass
from simclr_ext.trainer.training.measured_loss import MeasuredLoss
from simclr_ext.trainer.training.optim import learning_rate
from simclr_ext.trainer.training.parallel import parallel
from simclr_ext.trainer.training.state import Epoch, Training
from simclr_ext.trainer.views.batches import Source

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def pretrain(
    training: Training,
    source: Source,
    config: ResolvedConfig,
    loss: Loss | None = None,
    job: Job | None = None,
) -> Iterator[Training]:
    """Train in place from the current state to the run's last step.

    Args:
        training: The state, with a model on the run's device.
        source: Batches and views.
        config: The run, resolved.
        loss: Function of the projections of the first and of the second views, [N, D] each; None:
            NT-Xent at the run's temperature, over the images of all processes.
        job: The processes, with the source's share of the images each; None: this one alone.

    Yields:
        The state after every step; after an epoch's last step, with its measurements. Setting its
        `stop` ends the training.

    Raises:
        DivergedError: The loss is not finite.
    """
    job = job or Job()
    optimizer, scaler = training.optimizer, training.scaler
    total_steps = config.epochs * source.steps
    loss_of = MeasuredLoss(config.temperature, loss, job)
    model = parallel(training.model, config, job)
    network: Callable[..., Any] = torch.compile(model) if config.compile else model
    layout = memory_format(training.model, config.channels_last)
    while training.step < total_steps:
        epoch, skip = divmod(training.step, source.steps)
        clock = time.perf_counter()
        for batch in job.agreed(source.batches(epoch, skip)):
            model.train()  # the caller may have evaluated it since the last step
            rate = learning_rate(training.step, config, source.steps, training.rewarm)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss_of.measured = training.step % source.steps % config.monitor.metrics_every == 0
            forward = _forward(network, source, config, layout, training.step)
            if config.micro_batch is None:
                value, z = one_pass(forward, batch, loss_of, scaler)
            else:
                value, z = two_pass(
                    forward,
                    batch,
                    loss_of,
                    scaler,
                    micro_batch=len(source.share),
                    model=training.model,
                    no_sync=getattr(model, "no_sync", nullcontext),
                )
            if config.optim.clip_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            _measure(training, value, z, source.steps, config, loss_of, job)
            training.epoch_seconds += time.perf_counter() - clock
            if training.step % source.steps == 0:
                _finish_epoch(training, z, source.steps, config, job)
            yield training
            if training.stop:
                return
            clock = time.perf_counter()


def _forward(
    network: Callable[..., Any],
    source: Source,
    config: ResolvedConfig,
    layout: torch.memory_format,
    step: int,
) -> Forward:
    """Return the function that maps a step's chunks to z, [2n, D] float32.

    z leaves autocast in float32: the loss is computed in float32 anyway, and its gradient is not
    rounded to half precision before it reaches the network.
    """
    device = torch.device(config.device)
    mixed = config.precision != "fp32"

    def forward(chunk: Tensor, index: int) -> Tensor:
        seed = derive_seed(config.seed, Stream.VIEWS, step, index)
        views = source.views(chunk, seed).contiguous(memory_format=layout)
        seed = (seed + source.share.begin) % 2**64  # processes must not drop the same activations
        with seeded(seed, device), torch.autocast(device.type, _DTYPES[config.precision], mixed):
            z: Tensor = network(views)[1]
        return z.float() if mixed else z

    return forward


def _measure(
    training: Training,
    loss: Tensor,
    z: Tensor,
    steps: int,
    config: ResolvedConfig,
    loss_of: MeasuredLoss,
    job: Job,
) -> None:
    """Count a step; the sums stay on the device, to avoid a synchronization in every step."""
    training.totals = training.totals.to(z.device)
    training.totals[0] += loss
    if loss_of.measured:
        measurements = loss_of.measurements(z)
        training.totals[1:] += measurements
        training.measured += 1
        training.latest = {"loss": loss.item(), "accuracy": measurements[0].item()}
        _check_finite(training.latest["loss"], training.step // steps + 1, config.optim, job)
    training.step += 1


def _finish_epoch(
    training: Training, z: Tensor, steps: int, config: ResolvedConfig, job: Job
) -> None:
    """Turn the sums into the epoch's measurements."""
    loss, *metrics = training.totals.tolist()
    _check_finite(loss, training.step // steps, config.optim, job)
    z = job.union(z)
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


def _check_finite(loss: float, epoch: int, optim: OptimConfig, job: Job) -> None:
    with job.agreement():
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss of epoch {epoch} is {loss}: try an optim.learning_rate below "
                f"{optim.learning_rate:g}"
            )
