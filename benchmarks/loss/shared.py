"""Times the loss, eager PyTorch and torch.compile while other processes keep processors busy.

    python -m benchmarks.loss.shared [--n 16 64 256 1024 4096] [--busy 0 1 2] [--out shared.csv]

Forward + backward of [N, 128] float32 views at T = 0.1 with all processors' threads, while `busy`
processes of Python count. All are compared with float64 first, then timed in the same rounds. What
counts is how much slower each has become: an implementation whose threads wait for each other in
vain loses more than its share of the processors.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import RESULTS, processor
from benchmarks.loss.rows import append
from benchmarks.loss.tables import Table, milliseconds
from simclr_ext import nt_xent_loss
from simclr_ext.backends import loader
from simclr_ext.bench.baselines import Loss, eager
from simclr_ext.bench.measure import CHECKED, check, forward_backward, interleaved, views

OURS = "simclr-ext"
TEMPERATURE, DIM = 0.1, 128
COLUMNS = ("machine", "isa", "torch", "threads", "n", "d", "busy", "peer", "ms", "ms_low",
           "ms_high", "slowdown")  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure, print and append rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[16, 64, 256, 1024, 4096])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=6.0, help="for the rounds of one row")
    parser.add_argument("--out", type=Path, default=RESULTS / "shared.csv")
    args = parser.parse_args(argv)
    for n in args.n:
        append(args.out, COLUMNS, measure(n, args.busy, args.seconds))
    return 0


def measure(n: int, busy: list[int], seconds: float) -> list[dict[str, object]]:
    """Return the rows of one N; slowdowns are relative to the first number of busy processes."""
    torch.compiler.reset()
    losses: dict[str, Loss] = {OURS: nt_xent_loss, "eager": eager}
    losses["torch.compile"] = torch.compile(eager, dynamic=False)
    small, inputs = views(min(n, CHECKED), DIM), views(n, DIM)
    for loss in losses.values():
        check(loss, eager, small, TEMPERATURE)
    calls = {
        peer: functools.partial(forward_backward, loss, inputs, TEMPERATURE)
        for peer, loss in losses.items()
    }
    common = {
        "machine": processor(),
        "isa": loader.load().active_isa(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "n": n,
        "d": DIM,
    }
    found, alone = [], dict[str, float]()
    for count in busy:
        with busy_processes(count):
            timings = interleaved(calls, seconds=seconds)
        for peer, timing in timings.items():
            slowdown = timing.median / alone.setdefault(peer, timing.median)
            ms = {
                "ms": 1e3 * timing.median,
                "ms_low": 1e3 * timing.low,
                "ms_high": 1e3 * timing.high,
            }
            print(
                f"N = {n:,}, {count} busy: {peer:14} {ms['ms']:9.3f} ms {slowdown:6.2f}x",
                flush=True,
            )
            found.append(common | {"busy": count, "peer": peer, "slowdown": slowdown} | ms)
    return found


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep so many processors busy."""
    code = "while True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def table(path: Path = RESULTS / "shared.csv") -> str:
    """Return the tables of docs/benchmarks.md, one for each machine, of its last measurements."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    machines = dict.fromkeys(row["machine"] for row in rows)
    return "\n\n".join(
        _table_of([row for row in rows if row["machine"] == machine]) for machine in machines
    )


def _table_of(rows: list[dict[str, str]]) -> str:
    """Return the table of one machine."""
    found = {(row["n"], row["busy"], row["peer"]): row for row in rows}
    peers = list(dict.fromkeys(peer for *_, peer in found))
    body = [
        [f"{int(n):,}", busy, *(_cell(found[n, busy, peer]) for peer in peers)]
        for n, busy in dict.fromkeys(key[:2] for key in found)
    ]
    last = rows[-1]
    title = f"{last['machine']}, {last['isa']}, {last['threads']} threads:"
    return f"{title}\n\n{Table('', ['N', 'busy', *peers], body).grid()}"


def _cell(row: dict[str, str]) -> str:
    return f"{milliseconds(float(row['ms']))} ms ({float(row['slowdown']):.1f}x)"


if __name__ == "__main__":
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    raise SystemExit(main())
