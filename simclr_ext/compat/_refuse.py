"""Several processes: what adapters that do not gather refuse, and the group of those that do."""

from __future__ import annotations

from typing import Any

import torch


def refuse_processes(what: str, count: int) -> None:
    """Raise NotImplementedError if there is more than one process to gather negatives from.

    Args:
        what: What would gather them, as the caller wrote it.
        count: Number of processes.
    """
    if count > 1:
        raise NotImplementedError(
            f"{what} gathers the negatives of all {count} processes, which this adapter does not; "
            "the losses of simclr_ext do, with group="
        )


# Dynamo runs it while it traces: the number of processes does not change.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def processes() -> int:
    """Return the number of processes of torch.distributed, 1 if it is not set up."""
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def world(size: int) -> Any:
    """Return the group of all processes, or None for one.

    Args:
        size: The number of processes that the caller counts on.

    Raises:
        ValueError: If there are not so many.
    """
    if size == 1:
        return None
    if size != processes():
        raise ValueError(f"world_size must be the number of processes, {processes()}, got {size}")
    return torch.distributed.group.WORLD
