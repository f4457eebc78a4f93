"""What must be the same on every rank; an error of one rank is raised by all, and none hangs.

Each loss begins with one all-gather of a few numbers, the same number of them for every loss, so
that a rank with an error meets the others there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from simclr_ext._checks.pairs import EXCHANGES
from simclr_ext._checks.tensors import DTYPES
from simclr_ext.backends.reference import REDUCTIONS
from simclr_ext.distributed.ranks import Ranks

LOSSES = (
    "nt_xent_loss",
    "info_nce_loss",
    "sup_con_loss",
    "dcl_loss",
    "hcl_loss",
    "siglip_loss",
)
# What the numbers of these facts mean; other facts are numbers themselves.
_WORDS: Mapping[str, Sequence[object]] = {
    "loss": LOSSES,
    "dtype": DTYPES,
    "reduction": REDUCTIONS,
    "exchange": EXCHANGES,
    "form": ("out", "in"),
}
_LENGTH = 24  # numbers that each rank sends


def number_of(name: str, value: object) -> float:
    """Return a fact as a number: a number, a truth value, or one of the words of its name."""
    words = _WORDS.get(name)
    return float(value) if words is None else float(words.index(value))  # type: ignore[arg-type]


def agree(ranks: Ranks, rows: Sequence[int], facts: Mapping[str, float], least: int) -> Tensor:
    """Return the numbers of rows of all ranks, int64 [G, len(rows)] on the CPU.

    Args:
        ranks: The processes.
        rows: This rank's; ranks may have different numbers.
        facts: What must not differ, as numbers; the same names for the same loss.
        least: The least allowed sum of the first number of rows.

    Raises:
        ValueError: That of another rank, or what differs, the same sentence on every rank.
    """
    everyone = _gather(ranks, [0.0, *(float(size) for size in rows), *facts.values()])
    if any(values[0] for values in everyone):
        raise _shared(ranks, None)
    for index, name in enumerate(facts, start=1 + len(rows)):
        found = [values[index] for values in everyone]
        if any(value != found[0] for value in found):
            listed = ", ".join(_text(name, value) for value in found)
            raise ValueError(f"{name} must be the same on all ranks, got {listed}")
    sizes = torch.tensor([values[1 : 1 + len(rows)] for values in everyone], dtype=torch.int64)
    total = int(sizes[:, 0].sum())
    if total < least:
        raise ValueError(f"the ranks must have at least {least} rows in all, got {total}")
    return sizes


def raise_on_all(ranks: Ranks, error: Exception) -> None:
    """Raise this rank's error; the other ranks raise it where they agree.

    Raises:
        Exception: The error.
    """
    _gather(ranks, [1.0])
    raise _shared(ranks, error)


def _gather(ranks: Ranks, numbers: Sequence[float]) -> list[list[float]]:
    own = torch.zeros(_LENGTH, dtype=torch.float64)
    own[: len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
    everyone: list[list[float]] = ranks.gather(own.to(ranks.device)).tolist()
    return everyone


def _text(name: str, value: float) -> str:
    return str(_WORDS[name][int(value)]) if name in _WORDS else f"{value:g}"


def _shared(ranks: Ranks, error: Exception | None) -> Exception:
    """Return this rank's error, or the first of the others'."""
    messages: list[str | None] = [None] * ranks.size
    dist.all_gather_object(messages, None if error is None else str(error), group=ranks.group)
    if error is not None:
        return error
    rank, message = next((r, text) for r, text in enumerate(messages) if text is not None)
    return ValueError(f"rank {rank}: {message}")
