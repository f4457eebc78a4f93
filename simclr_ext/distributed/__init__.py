"""Negatives from all processes: the losses over the union of the ranks' batches.

From top to bottom: nt_xent, the loss and its gradients; gather and ring, how blocks of rows meet;
pairs, which rank computes which pair of blocks; blocks, the operators on them; agreement, errors
that reach every rank; ranks, the collectives.
"""

from simclr_ext.distributed.nt_xent import Arguments, Exchange, nt_xent
from simclr_ext.distributed.ranks import Group, Ranks

__all__ = ["Arguments", "Exchange", "Group", "Ranks", "nt_xent"]
