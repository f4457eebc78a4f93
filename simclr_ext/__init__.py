"""SimCLR's NT-Xent loss without the 2N x 2N matrix, and a trainer built on it.

Everything that needs torch is imported on first access: torch takes seconds to import, and the
command line's help and errors do not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from simclr_ext._errors import BackendUnavailableError

if TYPE_CHECKING:
    from simclr_ext.backends.selection import BackendChoice, select_backend
    from simclr_ext.diagnostics import contrastive_metrics
    from simclr_ext.losses import (
        ContrastiveStats,
        DCLLoss,
        HCLLoss,
        InfoNCELoss,
        NTXentLoss,
        SigLIPLoss,
        SupConLoss,
        dcl_loss,
        hcl_loss,
        info_nce_loss,
        nt_xent_loss,
        nt_xent_loss_with_stats,
        siglip_loss,
        sup_con_loss,
    )

__all__ = [
    "BackendChoice",
    "BackendUnavailableError",
    "ContrastiveStats",
    "DCLLoss",
    "HCLLoss",
    "InfoNCELoss",
    "NTXentLoss",
    "SigLIPLoss",
    "SupConLoss",
    "__version__",
    "contrastive_metrics",
    "dcl_loss",
    "hcl_loss",
    "info_nce_loss",
    "nt_xent_loss",
    "nt_xent_loss_with_stats",
    "select_backend",
    "siglip_loss",
    "sup_con_loss",
]

__version__ = "0.1.0"

_PACKAGES = ("compat", "diagnostics", "studies", "testing", "trainer")
_MODULES = {
    "BackendChoice": "backends.selection",
    "ContrastiveStats": "losses",
    "DCLLoss": "losses",
    "HCLLoss": "losses",
    "InfoNCELoss": "losses",
    "NTXentLoss": "losses",
    "SigLIPLoss": "losses",
    "SupConLoss": "losses",
    "contrastive_metrics": "diagnostics",
    "dcl_loss": "losses",
    "hcl_loss": "losses",
    "info_nce_loss": "losses",
    "nt_xent_loss": "losses",
    "nt_xent_loss_with_stats": "losses",
    "select_backend": "backends.selection",
    "siglip_loss": "losses",
    "sup_con_loss": "losses",
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # so that Python does not call this function for it again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
