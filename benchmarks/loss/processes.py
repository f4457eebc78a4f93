"""Times the loss over several processes, each with one thread, beside lightly's and open_clip's.

    python -m benchmarks.loss.processes [--n 4096] [--ranks 1 2 4] [--out processes.csv]

N pairs in all, [N / G, 128] float32 views on each of G ranks, forward + backward, on this machine
with gloo. All are compared with one process in float64 at a small N, then timed in the same rounds
after a barrier; a time is the slowest rank's, of which the median over the rounds is taken. Memory
is the peak of torch's allocator on rank 0, beyond inputs and gradients. With more ranks than cores
times say nothing about more machines; memory does.
"""

from __future__ import annotations

import argparse
import csv
import functools
import multiprocessing as mp
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from benchmarks import RESULTS, processor
from benchmarks.loss.memory import MIB, allocator_peak
from benchmarks.loss.rows import append
from benchmarks.loss.tables import Table
from simclr_ext import nt_xent_loss
from simclr_ext.bench.measure import forward_backward, views

TEMPERATURE = 0.1
DIM = 128
CHECKED = 64  # pairs
COLUMNS = ("machine", "torch", "n", "d", "ranks", "cores", "loss", "ms", "ratio",
           "allocated_mib")  # fmt: skip
Loss = Callable[[Tensor, Tensor, float], Tensor]


def ours(exchange: str) -> Loss:
    """Return our loss over all ranks; of one rank, the loss without a group."""
    group = dist.group.WORLD if dist.get_world_size() > 1 else None
    return lambda z0, z1, t: nt_xent_loss(z0, z1, t, group=group, exchange=exchange)  # type: ignore[arg-type]


def lightly() -> Loss:
    """Return lightly's loss, the mean of a rank's rows over the rows of all ranks."""
    from lightly.loss import NTXentLoss

    several = dist.get_world_size() > 1
    return lambda z0, z1, t: NTXentLoss(t, gather_distributed=several)(z0, z1)


def open_clip() -> Loss:
    """Return open_clip's local loss: queries of a rank against the keys of all, both directions."""
    from open_clip.loss import ClipLoss

    rank, size = dist.get_rank(), dist.get_world_size()
    criterion = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=size)

    def loss(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        value: Tensor = criterion(F.normalize(z0, dim=1), F.normalize(z1, dim=1), 1 / t)
        return value

    return loss


MAKERS: dict[str, Callable[[], Loss]] = {
    "simclr-ext, gather": functools.partial(ours, "gather"),
    "simclr-ext, ring": functools.partial(ours, "ring"),
    "lightly": lightly,
    "open_clip (rectangular)": open_clip,
}


def main(argv: list[str] | None = None) -> int:
    """Measure for each number of ranks; print and append rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "processes.csv")
    args = parser.parse_args(argv)
    alone: dict[str, float] = {}
    for size in args.ranks:
        for row in measure(args.n, size, args.rounds):
            alone.setdefault(row["loss"], row["ms"])
            row["ratio"] = row["ms"] / alone[row["loss"]]
            print("{ranks} ranks: {loss:24} {ms:8.1f} ms {ratio:5.2f}x".format(**row), end="")
            print("  {allocated_mib:7.1f} MiB".format(**row))
            append(args.out, COLUMNS, [row])
    return 0


def table(path: Path = RESULTS / "processes.csv") -> str:
    """Return the table of docs/benchmarks.md, of the machine that was measured last."""
    every = read(path)
    rows = [row for row in every if row["machine"] == every[-1]["machine"]]
    body = [
        [
            f"{row['loss']}, {row['ranks']} ranks"
            if row["ranks"] != "1"
            else f"{row['loss']}, one",
            f"{float(row['ms']):,.0f} ms",
            f"{float(row['ratio']):.2f}",
            f"{float(row['allocated_mib']):,.1f} MiB",
        ]
        for row in sorted(rows, key=lambda row: (row["loss"], int(row["ranks"])))
    ]
    last = rows[-1]
    title = (
        f"N = {int(last['n']):,} in all, D = {last['d']}, {last['machine']}, {last['cores']} cores:"
    )
    header = ["", "time", "of one rank's", "memory of a rank"]
    return f"{title}\n\n{Table('', header, body).grid()}"


def read(path: Path = RESULTS / "processes.csv") -> list[dict[str, str]]:
    """Return the last row of each machine, loss and number of ranks, in the order of time."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    last: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = (row["machine"], row["loss"], row["ranks"])
        last.pop(key, None)  # so that the new row has the last place
        last[key] = row
    return [*last.values()]


def measure(n: int, size: int, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each loss, with N pairs on so many ranks."""
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results = context.SimpleQueue()
        processes = [
            context.Process(target=_rank, args=(rank, size, n, rounds, folder, results))
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError("a rank has failed; its error is above")
        found: list[dict[str, Any]] = results.get()
    common = {"machine": processor(), "torch": torch.__version__, "n": n, "d": DIM}
    common |= {"ranks": size, "cores": os.cpu_count()}
    return [common | row for row in found]


def _rank(rank: int, size: int, n: int, rounds: int, folder: str, results: Any) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = f"file://{Path(folder) / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    losses = {}
    for name, make in MAKERS.items():
        try:
            losses[name] = make()
        except ImportError as error:
            print(f"{name}: {error}")
            continue
        if name.startswith("simclr-ext") or name == "lightly":
            check(name, losses[name], rank, size)
    inputs = own_views(n, rank, size)
    calls = {
        name: functools.partial(forward_backward, loss, inputs, TEMPERATURE)
        for name, loss in losses.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + 1):
        for name, call in calls.items():
            seconds = slowest(call)
            if index > 0:  # the first warms up
                samples[name].append(seconds)
    peaks = {name: allocator_peak(call) / MIB for name, call in calls.items()}
    if rank == 0:
        results.put(
            [
                {"loss": name, "ms": 1e3 * statistics.median(taken), "allocated_mib": peaks[name]}
                for name, taken in samples.items()
            ]
        )
    dist.barrier()
    dist.destroy_process_group()


def own_views(n: int, rank: int, size: int) -> tuple[Tensor, Tensor]:
    """Return this rank's part of the views of the union batch."""
    own = slice(rank * n // size, (rank + 1) * n // size)
    z0, z1 = (z.detach()[own].clone().requires_grad_() for z in views(n, DIM))
    return z0, z1


def check(name: str, loss: Loss, rank: int, size: int) -> None:
    """Raise ValueError unless averaged gradients are those of one process."""
    inputs = own_views(CHECKED, rank, size)
    forward_backward(loss, inputs, TEMPERATURE)
    z0, z1 = (z.detach().double().requires_grad_() for z in views(CHECKED, DIM))
    truth = functools.partial(nt_xent_loss, backend="reference")
    forward_backward(truth, (z0, z1), TEMPERATURE)
    own = slice(rank * CHECKED // size, (rank + 1) * CHECKED // size)
    for z, whole in zip(inputs, (z0, z1), strict=True):
        assert z.grad is not None
        assert whole.grad is not None
        error = (z.grad.double() / size - whole.grad[own]).norm() / whole.grad[own].norm()
        if not error < 1e-4:
            raise ValueError(f"{name}: relative error {error:.1e} of the averaged gradient")


def slowest(call: Callable[[], object]) -> float:
    """Return the seconds of the slowest rank."""
    dist.barrier()
    start = time.perf_counter()
    call()
    taken = torch.tensor(time.perf_counter() - start)
    dist.all_reduce(taken, dist.ReduceOp.MAX)
    return float(taken)


if __name__ == "__main__":
    raise SystemExit(main())
