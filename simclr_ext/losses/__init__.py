"""The losses: each a function and a module, on any backend.

nt_xent, info_nce, sup_con and decoupled are made of one primitive,
:func:`simclr_ext.backends.contrastive.contrastive`.
"""

from simclr_ext.losses.decoupled import DCLLoss, HCLLoss, dcl_loss, hcl_loss
from simclr_ext.losses.info_nce import InfoNCELoss, info_nce_loss
from simclr_ext.losses.nt_xent import NTXentLoss, nt_xent_loss
from simclr_ext.losses.siglip import SigLIPLoss, siglip_loss
from simclr_ext.losses.stats import ContrastiveStats, nt_xent_loss_with_stats
from simclr_ext.losses.sup_con import SupConLoss, sup_con_loss

__all__ = [
    "ContrastiveStats",
    "DCLLoss",
    "HCLLoss",
    "InfoNCELoss",
    "NTXentLoss",
    "SigLIPLoss",
    "SupConLoss",
    "dcl_loss",
    "hcl_loss",
    "info_nce_loss",
    "nt_xent_loss",
    "nt_xent_loss_with_stats",
    "siglip_loss",
    "sup_con_loss",
]
