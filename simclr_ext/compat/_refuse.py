"""What all adapters refuse: negatives from several processes."""

from __future__ import annotations

import torch


def refuse_processes(what: str, count: int) -> None:
    """Raise NotImplementedError if there is more than one process to gather negatives from.

    Args:
        what: What would gather them, as the caller wrote it.
        count: Number of processes.
    """
    if count > 1:
        raise NotImplementedError(
            f"{what} gathers the negatives of all {count} processes, which is not implemented; "
            "the losses of simclr_ext take those of each process's own batch"
        )


# Dynamo runs it while it traces: the number of processes does not change.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def processes() -> int:
    """Return the number of processes of torch.distributed, 1 if it is not set up."""
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1
