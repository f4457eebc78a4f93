"""Spijkervet/SimCLR's loss: ``from simclr_ext.compat.spijkervet import NT_Xent``."""

from __future__ import annotations

from torch import Tensor, nn

from simclr_ext._checks.scalars import as_temperature
from simclr_ext.compat._refuse import refuse_processes
from simclr_ext.losses import nt_xent_loss

EPS = 1e-8  # the smallest norm, as in nn.CosineSimilarity


class NT_Xent(nn.Module):  # noqa: N801
    """``simclr.modules.NT_Xent``: :func:`simclr_ext.nt_xent_loss` of batches of one size.

    Args:
        batch_size: N of every call.
        temperature: T > 0.
        world_size: Must be 1.

    Raises:
        TypeError: If the temperature is no number.
        ValueError: If the temperature is not positive, or by a call with another N.
        NotImplementedError: If ``world_size`` is more than 1.

    Example:
        >>> import torch
        >>> criterion = NT_Xent(batch_size=4, temperature=0.5, world_size=1)
        >>> round(criterion(torch.eye(4), torch.eye(4)).item(), 4)  # log(e^2 + 6) - 2
        0.5944

    Source: SimCLR (arXiv 2002.05709), equation 1.
    """

    def __init__(self, batch_size: int, temperature: float, world_size: int) -> None:
        super().__init__()
        as_temperature(temperature)
        refuse_processes(f"world_size={world_size}", world_size)
        self.batch_size = batch_size
        self.temperature = temperature
        self.world_size = world_size

    def forward(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Return the loss of the views ``z_i`` and ``z_j``, [N, D] each."""
        if len(z_i) != self.batch_size:
            raise ValueError(
                f"z_i must have batch_size = {self.batch_size} rows, got {len(z_i)}; "
                "simclr_ext.nt_xent_loss takes any number"
            )
        return nt_xent_loss(z_i, z_j, self.temperature, eps=EPS)
