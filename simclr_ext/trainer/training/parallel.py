"""The network of a step: the model itself, or with several processes its part of their network."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.job import Job
from simclr_ext.trainer.model.batch_norm import with_global_statistics
from simclr_ext.trainer.model.simclr import SimCLR


def parallel(model: SimCLR, config: ResolvedConfig, job: Job) -> nn.Module:
    """Return the network whose backward pass averages gradients over the job.

    Args:
        model: Encoder and head, whose weights and buffers it shares.
        config: The run.
        job: The processes; of one alone, the network is the model.
    """
    if job.group is None:
        return model
    network: nn.Module = model
    if config.model.sync_batch_norm:
        network = with_global_statistics(model, job.group)
    devices = [torch.cuda.current_device()] if config.device == "cuda" else None
    return DistributedDataParallel(
        network,
        devices,
        process_group=job.group,
        find_unused_parameters=_has_unused(model, config),
    )


def _has_unused(model: SimCLR, config: ResolvedConfig) -> bool:
    """Return whether there is a parameter without gradient, for which DDP would wait."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    images = torch.zeros(2, config.channels, config.side, config.side, device=config.device)
    z = model.eval()(images)[1]
    found = torch.autograd.grad(z.sum(), parameters, allow_unused=True)
    return any(gradient is None for gradient in found)
