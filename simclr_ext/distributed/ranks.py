"""The processes that share a batch, and the few collectives that the losses need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

# torch 2.14 renames it, and warns of the older name.
_all_gather = (
    collectives.all_gather_single
    if hasattr(collectives, "all_gather_single")
    else collectives.all_gather_tensor
)

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
        return wait(_all_gather(values[None].contiguous(), 0, self.group))

    def gather_rows(self, rows: Tensor, sizes: list[int]) -> list[Tensor]:
        """Return the rows of each rank, of which rank r has sizes[r]."""
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        return [part[:size] for part, size in zip(self.gather(padded), sizes, strict=True)]

    def reduce(self, values: Tensor, operation: str) -> Tensor:
        """Return the "sum" or the "max" of a tensor over all ranks."""
        return wait(collectives.all_reduce(values.contiguous(), operation, self.group))

    def pass_back(self, rows: Tensor, size: int) -> Tensor:
        """Send rows to the rank before this one; return the ``size`` rows of the one after.

        They may still be on their way; their first use waits for them.
        """
        return self._exchange(rows, self.after(1), self.after(-1), size)

    def _exchange(self, rows: Tensor, source: int, target: int, size: int) -> Tensor:
        received, sent = [0] * self.size, [0] * self.size
        received[source], sent[target] = size, len(rows)
        found: Tensor = collectives.all_to_all_single(rows.contiguous(), received, sent, self.group)
        return found

    def send_home(self, rows: Tensor, distance: int, size: int) -> Tensor:
        """Send rows to the rank that far after this one, whose they are; return one's own.

        Args:
            rows: Of the rank ``distance`` after this one.
            distance: > 0.
            size: The number of rows of this rank.
        """
        return self._exchange(rows, self.after(-distance), self.after(distance), size)


def wait(values: Tensor) -> Tensor:
    """Return a tensor that has arrived."""
    arrived: Tensor = collectives.wait_tensor(values)  # type: ignore[no-untyped-call]
    return arrived


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


def split(rows: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """Return the parts of the ranks, as views."""
    parts: tuple[Tensor, ...] = torch.split(rows, sizes)
    return parts


def mean_gradient(ranks: Ranks, part: Tensor, temperature: Tensor) -> Tensor:
    """Return the mean over the ranks of the gradients of a temperature, of which each has a part.

    The losses of all ranks depend on all parts; so the mean is that of one process.
    """
    return (ranks.reduce(part, "sum") / ranks.size).to(temperature)


def log_sum_exp_of_ranks(ranks: Ranks, values: Tensor) -> Tensor:
    """Return log sum_r exp(values of rank r), -inf where no rank has a finite value."""
    largest = ranks.reduce(values, "max")
    shift = torch.where(largest == -torch.inf, 0, largest)
    return ranks.reduce((values - shift).exp(), "sum").log() + shift
