"""Numbers of ids, such as labels, that are the same on all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simclr_ext.distributed.ranks import Ranks


def of_ids(ranks: Ranks, sizes: Sequence[int], ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each id of this rank its number, and how often it occurs on all ranks.

    Args:
        ranks: The processes.
        sizes: The number of ids of each rank.
        ids: [N] integers.

    Returns:
        Numbers [N] int32, equal where the ids are, and counts [N] int64.
    """
    everyone = ranks.join_rows(ids.long(), sizes)
    _, number, counts = torch.unique(everyone, return_inverse=True, return_counts=True)
    begin = sum(sizes[: ranks.rank])
    own = number[begin : begin + len(ids)]
    return own.to(torch.int32), counts[own]
