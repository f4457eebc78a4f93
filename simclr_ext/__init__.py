"""SimCLR's NT-Xent loss without the 2N x 2N matrix, and a trainer built on it."""

from simclr_ext._backend import BackendUnavailableError
from simclr_ext.losses import NTXentLoss, nt_xent_loss
from simclr_ext.selection import BackendChoice, select_backend

__all__ = [
    "BackendChoice",
    "BackendUnavailableError",
    "NTXentLoss",
    "__version__",
    "nt_xent_loss",
    "select_backend",
]

__version__ = "0.1.0"
