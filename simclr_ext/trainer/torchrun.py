"""What torchrun tells its processes, and what it keeps for them when it starts them again.

torchrun itself has a store of keys and values, which outlives the processes that it starts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_ROUND = "simclr_ext/round"
_LONGEST_START = timedelta(seconds=15)  # torchrun kills what it ends after 30
_runs = itertools.count()


def starts_several() -> bool:
    """Return whether this process is one of several that torchrun, or a scheduler, has started."""
    return all(map(os.environ.get, _VARIABLES)) and int(os.environ["WORLD_SIZE"]) > 1


def initialize() -> None:
    """Initialize `torch.distributed` from the environment variables, with gloo.

    torchrun's store still has the addresses of processes that it has started before; so each round
    has its own names, and ends when all of its processes have met.
    """
    store = _agent_store()
    if store is None:
        dist.init_process_group("gloo")
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    number = store.add(_ROUND, 0)
    names = PrefixStore(f"simclr_ext/{number}", store)
    dist.init_process_group("gloo", store=names, rank=rank, world_size=size)
    if rank == 0:
        store.add(_ROUND, 1)


def end_together() -> None:
    """Wait until all processes have come here, after an error that all of them have.

    As soon as one has ended, torchrun ends the others by SIGTERM, perhaps before they have reported
    why. Some may still be starting; one that has been killed never comes.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    store = _agent_store()
    if store is None:
        time.sleep(1)
        return
    key = f"simclr_ext/ended/{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    if store.add(f"{key}/count", 1) == int(os.environ["WORLD_SIZE"]):
        store.set(f"{key}/all", "")
    with contextlib.suppress(RuntimeError):  # they did not come in time
        store.wait([f"{key}/all"], _LONGEST_START)


class RunMemory:
    """Keeps the folder of a run for the same run of the same program, started again by torchrun.

    Runs are told apart by their number in the program.
    """

    def __init__(self) -> None:
        self._key = f"simclr_ext/run_folder/{next(_runs)}"

    def keep(self, folder: Path) -> None:
        """Remember the folder of a new run."""
        if (store := _agent_store()) is not None:
            store.set(self._key, str(folder))

    def folder(self) -> Path | None:
        """Return the folder of this run before it was started again; None: it is new."""
        store = _agent_store()
        if store is None or not store.check([self._key]):
            return None
        return Path(store.get(self._key).decode())


def _agent_store() -> Store | None:
    """Return torchrun's own store; None: there is none."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
