"""Checks before a run starts, of what would otherwise fail late or without a message."""

from __future__ import annotations

import dataclasses
import hashlib

import torch
from torch import Tensor

from simclr_ext import NTXentLoss
from simclr_ext.options.errors import ConfigError, JobError
from simclr_ext.options.serialize import differences
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.job import Job
from simclr_ext.trainer.model.simclr import SimCLR


def check_loss(temperature: float, device: str) -> None:
    """Compute a small loss, so that a missing backend fails, or is compiled, before the run."""
    views = torch.eye(2, device=device)
    NTXentLoss(temperature)(views, views)


@torch.no_grad()
def check_model(model: SimCLR, config: ResolvedConfig) -> None:
    """Raise ConfigError unless the model takes images of the run's size."""
    images = torch.zeros(2, config.channels, config.side, config.side, device=config.device)
    try:
        _, z = model.eval()(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"model.encoder: {config.model.encoder} does not take images of {config.side} x "
            f"{config.side} ({reason})"
        ) from error
    if not isinstance(z, Tensor) or z.ndim != 2:
        raise ConfigError(f"model.encoder: {config.model.encoder} does not return vectors")


def check_share(config: ResolvedConfig, job: Job) -> None:
    """Raise ConfigError if a process of a job would have no image of a batch, or of a chunk."""
    for name in ("batch_size", "micro_batch"):
        images = getattr(config, name)
        if images is not None and images < job.size:
            raise ConfigError(
                f"{name} must be at least {job.size}, the number of processes, got {images}"
            )


def check_same(config: ResolvedConfig, data: Dataset, job: Job) -> None:
    """Raise JobError unless all processes of a job have the same configuration and images."""
    own = dataclasses.replace(config, threads=None).to_dict(), _fingerprint(data)
    first = job.on_first(lambda: own)
    with job.agreement():
        if other := differences(first[0], own[0]):
            fields = ", ".join(f"{name} ({a} and {b})" for name, (a, b) in other.items())
            raise JobError(f"ranks 0 and {job.rank} of the job differ in {fields}")
        if first[1] != own[1]:
            raise JobError(
                f"ranks 0 and {job.rank} of the job have read different training images from "
                f"{data.name}, {first[1][0]} and {own[1][0]}"
            )


def _fingerprint(data: Dataset) -> tuple[int, str]:
    """Return the number of training images, and a hash of their ids in order."""
    return len(data.train), hashlib.sha256(data.train.ids.tobytes()).hexdigest()
