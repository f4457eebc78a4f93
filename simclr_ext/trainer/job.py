"""The processes that train one model together: one alone, or those that torchrun has started.

A run asks its job, and never how many processes there are: for one process, every method is
trivial. What is said between the processes about the run goes over a group of its own on the CPU,
whose timeout is a day, so that the others may wait for the evaluation by the first one. Tensors of
the training go over `Job.group`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from simclr_ext.distributed import Ranks
from simclr_ext.options.errors import ConfigError, DeviceError, JobError, PeerError
from simclr_ext.trainer import torchrun
from simclr_ext.trainer.progress import silence

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # end a run after the current step
_LONGEST = timedelta(days=1)  # that the others wait for the first process
# In the errors of collectives whose other side is gone: gloo's, and NCCL's.
_LOST = ("Connection closed", "Connection reset", "Broken pipe", "Timed out", "ncclRemoteError")


@dataclass(frozen=True)
class Share:
    """The part of some images that a process takes.

    Attributes:
        begin: Number of the first image.
        end: That after the last.
        of: Number of all images.
    """

    begin: int
    end: int
    of: int

    def __len__(self) -> int:
        return self.end - self.begin

    @property
    def rows(self) -> slice:
        """The part as a slice."""
        return slice(self.begin, self.end)


class Job:
    """One process.

    Attributes:
        rank: Number of this process.
        size: Number of processes.
        group: The processes, for collectives on the run's device; None: there is one process.
    """

    rank = 0
    size = 1
    group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder, and reports."""
        return self.rank == 0

    def share(self, images: int) -> Share:
        """Return the contiguous part of this process; the sizes differ by at most one."""
        return Share(images * self.rank // self.size, images * (self.rank + 1) // self.size, images)

    def use(self, device: str) -> None:
        """Start to work on a device; with several processes, "cuda" is the GPU of LOCAL_RANK.

        Raises:
            ConfigError: The device has a number, or is neither a CPU nor a GPU.
            DeviceError: The machine has fewer GPUs than processes.
        """

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """Raise an error of the block on all processes, so that none waits for another.

        The block has no collectives but those of other agreements.

        Raises:
            PeerError: Another process has failed; of several, the first raises its own error.
        """
        yield

    def agreed(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items, as many on all processes, each within an agreement."""
        yield from items

    def on_first(self, function: Callable[[], T]) -> T:
        """Return what a function returns on the first process, for which the others wait."""
        return function()

    def largest(self, *numbers: int) -> list[int]:
        """Return the largest of each number over all processes."""
        return list(numbers)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of tensors of one shape over all processes."""
        return values

    def union(self, z: Tensor) -> Tensor:
        """Return the views of all processes' images, first views first.

        Args:
            z: Views of this process's images, [2n, D]; n may differ.
        """
        return z

    def copy_weights(self, model: nn.Module) -> None:
        """Give a model on the CPU the weights and buffers of the first process."""

    def close(self) -> None:
        """Give back what the job has started."""


class Processes(Job):
    """Several processes of an initialized `torch.distributed`."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._control = _new_group("gloo", _LONGEST)
        self._told: BaseException | None = None  # the last error that all processes know of

    def use(self, device: str) -> None:
        """See `Job`."""
        with self.agreement():
            if device not in ("cpu", "cuda"):
                raise ConfigError(
                    f"device must be cpu or cuda with several processes, got {device!r}; cuda is "
                    "the GPU of each process's LOCAL_RANK"
                )
            if device == "cuda":
                _take_gpu(self.rank)
        backend = "nccl" if device == "cuda" else "gloo"
        fits = backend == dist.get_backend()
        self.group = dist.group.WORLD if fits else _new_group(backend)

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """See `Job`."""
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            if caught is self._told:
                raise
            error = caught
        if self.largest(error is not None)[0]:
            self._told = self._first_error(error)
            raise self._told

    def _first_error(self, error: Exception | None) -> Exception:
        told = None if error is None else (_public_type(error), str(error))
        everyone: list[tuple[type[BaseException], str] | None] = [None] * self.size
        with lost_processes():
            dist.all_gather_object(everyone, told, group=self._control)
        rank, (kind, message) = next((r, found) for r, found in enumerate(everyone) if found)
        return error if error and rank == self.rank else PeerError(f"rank {rank}: {message}", kind)

    def agreed(self, items: Iterable[T]) -> Iterator[T]:
        """See `Job`."""
        iterator = iter(items)
        while True:
            with self.agreement():
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def on_first(self, function: Callable[[], T]) -> T:
        """See `Job`."""
        found: list[Any] = [None]
        with self.agreement():
            if self.is_first:
                found[0] = function()
        with lost_processes():
            dist.broadcast_object_list(found, src=0, group=self._control)
        result: T = found[0]
        return result

    def largest(self, *numbers: int) -> list[int]:
        """See `Job`."""
        values = torch.tensor(numbers, dtype=torch.int64)
        with lost_processes():
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self._control)
        return values.tolist()

    def sum(self, values: Tensor) -> Tensor:
        """See `Job`."""
        return Ranks.of(self.group).reduce(values, "sum")

    def union(self, z: Tensor) -> Tensor:
        """See `Job`."""
        ranks = Ranks.of(self.group)
        sizes = ranks.gather(torch.tensor(len(z), device=z.device)).tolist()
        both = [part.chunk(2) for part in ranks.gather_rows(z, sizes)]
        return torch.cat([first for first, _ in both] + [second for _, second in both])

    def copy_weights(self, model: nn.Module) -> None:
        """See `Job`."""
        with lost_processes():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0, group=self._control)

    def close(self) -> None:
        """See `Job`."""
        for group in (self._control, self.group):
            if group not in (None, dist.group.WORLD):
                dist.destroy_process_group(group)


def _new_group(backend: str, timeout: timedelta | None = None) -> dist.ProcessGroup:
    group = dist.new_group(backend=backend, timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)  # of all processes, so this one is in it
    return group


def _public_type(error: Exception) -> type[BaseException]:
    """Return the error's type, or the nearest base of it that every process can import."""
    known = ("builtins", "simclr_ext")
    return next(kind for kind in type(error).__mro__ if kind.__module__.startswith(known))


def _take_gpu(rank: int) -> None:
    """Make the GPU of LOCAL_RANK the current one, that is, "cuda"."""
    count = torch.cuda.device_count()
    local = int(os.environ.get("LOCAL_RANK", rank))
    if local >= count:
        raise DeviceError(
            f"device: LOCAL_RANK is {local}, and this machine has {count} GPUs: start one process "
            "for each of them"
        )
    torch.cuda.set_device(local)


@contextmanager
def joined() -> Iterator[Job]:
    """Yield the job of this process, and leave it at the end.

    It has several processes if `torch.distributed` is initialized, or if torchrun's environment
    variables are set; then it is initialized from them. Only the first process writes to stderr.
    """
    starts = not dist.is_available() or not dist.is_initialized()
    if starts:
        if not torchrun.starts_several():
            yield Job()
            return
        torchrun.initialize()
    try:
        job = Processes() if dist.get_world_size() > 1 else Job()
        with contextlib.nullcontext() if job.is_first else _quiet():
            yield job
        job.close()
    finally:
        if starts:
            dist.destroy_process_group()


@contextmanager
def _quiet() -> Iterator[None]:
    with silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def lost_processes() -> Iterator[None]:
    """Turn the error of a collective into a JobError, if another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, JobError) or not any(text in str(error) for text in _LOST):
            raise
        raise JobError("another process of the job has ended, or is not reached") from error
