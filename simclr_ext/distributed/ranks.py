"""The processes that share a batch, and the few collectives that the losses need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from simclr_ext._torch_compat import group_of_name

# torch 2.14 renames it, and warns of the older name.
_all_gather: Callable[..., Any] = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)

Group = Any  # a ProcessGroup, a DeviceMesh of one dimension, or (DeviceMesh, dimension)


@dataclass(frozen=True)
class Ranks:
    """A group of processes.

    Args:
        group: The process group.
        rank: Of this process in the group.
        size: G.
    """

    group: dist.ProcessGroup
    rank: int
    size: int

    @classmethod
    def of(cls, group: Group) -> Ranks:
        """Return the processes of a group, a mesh, or a dimension of a mesh.

        Raises:
            TypeError: If it is none of these.
            ValueError: If there are no process groups, the mesh has more dimensions than one, or
                this process is not in the group.
        """
        if not dist.is_available() or not dist.is_initialized():
            raise ValueError(
                f"group must be None without torch.distributed.init_process_group, got {group!r}"
            )
        found = _process_group(group)
        rank = dist.get_rank(found)
        if rank < 0:
            raise ValueError(f"group must have this process in it, got {group!r}")
        return cls(found, rank, dist.get_world_size(found))

    @classmethod
    def named(cls, name: str) -> Ranks:
        """Return the processes of the group with this ``group_name``, as compiled code names it."""
        return cls.of(group_of_name(name))

    @property
    def device(self) -> torch.device:
        """The device whose tensors the group's collectives take."""
        if "nccl" in dist.get_backend(self.group):
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")

    def after(self, distance: int) -> int:
        """Return the rank that many places after this one, in a ring."""
        return (self.rank + distance) % self.size

    def gather(self, values: Tensor) -> Tensor:
        """Return the tensors of all ranks, of one shape, [G, ...]."""
        found = values.new_empty(self.size, *values.shape)
        _all_gather(found.view(-1), values.reshape(-1), group=self.group)
        return found

    def gather_rows(self, rows: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Return the rows of each rank, of which rank r has sizes[r]."""
        return self.start_gathering(rows, sizes)()

    def start_gathering(self, rows: Tensor, sizes: Sequence[int]) -> Callable[[], list[Tensor]]:
        """Begin :meth:`gather_rows`; return what waits for it and returns the rows."""
        padded = rows.contiguous()
        if len(rows) < max(sizes):
            padded = rows.new_zeros(max(sizes), *rows.shape[1:])
            padded[: len(rows)] = rows
        found = rows.new_empty(self.size, *padded.shape)
        work: Any = _all_gather(found.view(-1), padded.view(-1), group=self.group, async_op=True)

        def finish() -> list[Tensor]:
            work.wait()
            return [part[:size] for part, size in zip(found, sizes, strict=True)]

        return finish

    def join_rows(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the rows of all ranks, in their order."""
        if len(set(sizes)) == 1:
            return self.gather(rows).flatten(0, 1)
        return torch.cat(self.gather_rows(rows, sizes))

    def reduce(self, values: Tensor, operation: str) -> Tensor:
        """Return the "sum", "max" or "min" of a tensor over all ranks."""
        found = values.to(self.device, copy=True).contiguous()  # a temperature may be on the CPU
        dist.all_reduce(found, getattr(dist.ReduceOp, operation.upper()), group=self.group)
        return found.to(values.device)

    def exchange(
        self, rows: Tensor, sent: Sequence[int], received: Sequence[int]
    ) -> tuple[Tensor, dist.Work]:
        """Send each rank some of the rows; return those of all ranks, in their order.

        Args:
            rows: Those for rank 0, then those for rank 1, etc.
            sent: How many are for each rank.
            received: How many each rank sends.

        Returns:
            The rows, there once the work is waited for; until then ``rows`` must stay as it is.
        """
        found = rows.new_empty(sum(received), *rows.shape[1:])
        work: Any = dist.all_to_all_single(
            found,
            rows.contiguous(),
            list(received),
            list(sent),
            group=self.group,
            async_op=True,
        )
        return found, work

    def alone(self, rank: int, size: int) -> list[int]:
        """Return the sizes of rows of which one rank has all."""
        sizes = [0] * self.size
        sizes[rank] = size
        return sizes


def _process_group(group: Group) -> dist.ProcessGroup:
    if isinstance(group, dist.ProcessGroup):
        return group
    mesh, dimension = group if isinstance(group, tuple) and len(group) == 2 else (group, None)
    if not isinstance(mesh, DeviceMesh):
        raise TypeError(
            "group must be None, a ProcessGroup, a DeviceMesh or (DeviceMesh, dimension), got "
            f"{type(group).__name__}"
        )
    if dimension is None and mesh.ndim != 1:
        raise ValueError(
            f"group must be a DeviceMesh of one dimension, or (mesh, dimension), got {mesh.ndim} "
            "dimensions"
        )
    found: dist.ProcessGroup = mesh.get_group(dimension)
    return found


def split(rows: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the parts of the ranks, as views."""
    parts: tuple[Tensor, ...] = torch.split(rows, list(sizes))
    return parts
