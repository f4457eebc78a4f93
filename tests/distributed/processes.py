"""Processes with gloo that run functions on the first so many ranks."""

from __future__ import annotations

import multiprocessing as mp
import pickle
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

LARGEST = 4
TIMEOUT = 120.0  # seconds; a rank that hangs is an error, not a test that never ends


class Processes:
    """Ranks that wait for functions to call; importing torch takes each of them seconds, once."""

    def __init__(self, folder: Path, count: int = LARGEST) -> None:
        context = mp.get_context("spawn")
        pipes = [context.Pipe() for _ in range(count)]
        self._ends = [end for end, _ in pipes]
        self._processes = [
            context.Process(target=_serve, args=(rank, count, folder / "store", end), daemon=True)
            for rank, (_, end) in enumerate(pipes)
        ]
        for process in self._processes:
            process.start()
        for _, end in pipes:
            end.close()  # so that the end of a process is seen

    def run(self, function: Callable[..., Any], size: int, *args: Any) -> list[Any]:
        """Call function(rank, group, *args) on the first `size` ranks; return the results.

        A rank's exception is its result, so that tests can compare them.
        """
        for end in self._ends[:size]:
            end.send_bytes(pickle.dumps((function, size, args)))
        found = []
        for rank, end in enumerate(self._ends[:size]):
            assert end.poll(TIMEOUT), f"rank {rank} gave no result within {TIMEOUT:.0f} s"
            try:
                found.append(pickle.loads(end.recv_bytes()))
            except EOFError as error:  # the process has ended
                found.append(error)
        return found

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()


def _serve(rank: int, count: int, store: Path, end: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=60),
    )
    groups = {size: dist.new_group(list(range(size))) for size in range(1, count + 1)}
    while True:
        function, size, args = pickle.loads(end.recv_bytes())
        try:
            result = function(rank, groups[size], *args)
        except Exception as error:
            traceback.print_exc()
            result = error
        end.send_bytes(pickle.dumps(result))  # plain bytes: torch would share the tensors' memory
