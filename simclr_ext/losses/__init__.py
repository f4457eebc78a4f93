"""The losses: each a function and a module, on any backend."""

from simclr_ext.losses.nt_xent import NTXentLoss, nt_xent_loss

__all__ = ["NTXentLoss", "nt_xent_loss"]
