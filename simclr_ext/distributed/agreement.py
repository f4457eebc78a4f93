"""What must be the same on every rank; an error of one rank is raised by all, and none hangs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from simclr_ext._checks import DTYPES
from simclr_ext.distributed.ranks import Ranks


def agree(
    ranks: Ranks, error: Exception | None, rows: int, facts: Mapping[str, float]
) -> list[int]:
    """Return the number of rows of each rank.

    Args:
        ranks: The processes.
        error: What is wrong with this rank's arguments, or None.
        rows: This rank's; ranks may have different numbers.
        facts: What must not differ, as numbers; the same names on all ranks.

    Raises:
        Exception: This rank's error.
        ValueError: That of another rank, or what differs, the same sentence on every rank.
    """
    own = [float(error is not None), float(rows), *facts.values()]
    everyone = ranks.gather(torch.tensor(own, dtype=torch.float64, device=ranks.device)).tolist()
    if any(values[0] for values in everyone):
        raise _shared(ranks, error)
    for index, name in enumerate(facts, start=2):
        found = [values[index] for values in everyone]
        if any(value != found[0] for value in found):
            listed = ", ".join(f"{_text(name, value)}" for value in found)
            raise ValueError(f"{name} must be the same on all ranks, got {listed}")
    return [int(values[1]) for values in everyone]


def dtype_number(z: Tensor) -> float:
    """Return a dtype as a number."""
    return float(DTYPES.index(z.dtype))


def _text(name: str, value: float) -> str:
    return str(DTYPES[int(value)]) if name == "dtype" else f"{value:g}"


def _shared(ranks: Ranks, error: Exception | None) -> Exception:
    """Return this rank's error, or the first of the others'."""
    messages: list[str | None] = [None] * ranks.size
    dist.all_gather_object(messages, None if error is None else str(error), group=ranks.group)
    if error is not None:
        return error
    rank, message = next((r, text) for r, text in enumerate(messages) if text is not None)
    return ValueError(f"rank {rank}: {message}")
