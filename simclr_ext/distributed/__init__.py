"""Negatives from all processes: the losses over the union of the ranks' batches.

From top to bottom: union, the differentiable functions that the losses are made of; operators,
opaque to torch.compile, with their checks in arguments and what it sees of them in fake;
contrastive, sigmoid and labeled, what they compute; meeting, how rows of two ranks meet; pairs,
which rank computes which pair of blocks; blocks, the operators on them; numbers, of labels;
agreement, errors that reach every rank; ranks, the collectives.
"""

from simclr_ext._checks.pairs import EXCHANGES, Exchange
from simclr_ext.distributed.agreement import LOSSES, number_of, raise_on_all
from simclr_ext.distributed.ranks import Group, Ranks
from simclr_ext.distributed.union import Union

__all__ = [
    "EXCHANGES",
    "LOSSES",
    "Exchange",
    "Group",
    "Ranks",
    "Union",
    "number_of",
    "raise_on_all",
]
