"""SimCLR's NT-Xent loss without the 2N x 2N matrix, and a trainer built on it."""

from simclr_ext._backend import BackendUnavailableError
from simclr_ext.losses import NTXentLoss, nt_xent_loss

__all__ = ["BackendUnavailableError", "NTXentLoss", "__version__", "nt_xent_loss"]

__version__ = "0.1.0"
