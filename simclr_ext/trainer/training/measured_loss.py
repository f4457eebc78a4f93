"""The loss of a step, which also measures the steps that are to be measured."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ext import NTXentLoss, contrastive_metrics, nt_xent_loss_with_stats
from simclr_ext.losses import ContrastiveStats
from simclr_ext.trainer.job import Job
from simclr_ext.trainer.training.gradient import Loss, halves


class MeasuredLoss:
    """A function of the projections of both views.

    NT-Xent on a CPU finds the measurements in the pass that computes the loss. Another loss, or
    another device, takes a second pass, and so do several processes, for all views of their union.

    Args:
        temperature: T.
        custom: Instead of NT-Xent.
        job: The processes whose images are each other's negatives.
    """

    def __init__(self, temperature: float, custom: Loss | None, job: Job) -> None:
        self.temperature = temperature
        self.measured = False  # whether the next step is
        self._loss = NTXentLoss(temperature, group=job.group) if custom is None else custom
        self._finds_stats = custom is None and job.group is None
        self._job = job
        self._stats: ContrastiveStats | None = None

    def __call__(self, z0: Tensor, z1: Tensor) -> Tensor:
        """Return the loss of the views [N, D] each."""
        self._stats = None
        if not (self.measured and self._finds_stats and z0.device.type == "cpu"):
            return self._loss(z0, z1)
        loss, self._stats = nt_xent_loss_with_stats(z0, z1, self.temperature)
        return loss

    def measurements(self, z: Tensor) -> Tensor:
        """Return accuracy, entropy and similarity to positives and to negatives of the last call.

        Args:
            z: Its views, [2N, D].
        """
        if self._stats is None:
            return self._of_union(z)
        positive = self._stats.positive_similarity.double()
        means = (self._stats.accuracy, self._stats.entropy.mean(), positive.mean())
        return torch.stack([mean.double() for mean in (*means, _negatives(z, positive))])

    def _of_union(self, z: Tensor) -> Tensor:
        """Return the means over the views of all processes, each of which measures its share."""
        union = self._job.union(z)
        share = self._job.share(len(union))
        rows = torch.arange(share.begin, share.end, device=z.device)
        found = contrastive_metrics(*halves(union), self.temperature, rows=rows)
        return self._job.sum(torch.stack(found[:4]) * (len(share) / share.of))


def _negatives(z: Tensor, positive: Tensor) -> Tensor:
    """Return the mean similarity to negatives; NaN without any.

    The sum of all similarities is |sum_i z_i|^2: no second pass over the pairs is needed.
    """
    unit = F.normalize(z, dim=1).double()
    others = unit.sum(0).square().sum() - unit.square().sum() - positive.sum()
    return others / (len(z) * (len(z) - 2)) if len(z) > 2 else others * torch.nan
