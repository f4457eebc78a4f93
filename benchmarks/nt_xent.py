"""Compares the loss with its peers: time, efficiency and memory, in one run.

    python benchmarks/nt_xent.py [--out results.csv] [--rounds 15]

Every implementation is checked against float64 before it is timed. Prints tables in Markdown, and
writes the rows to a CSV file.
"""

from __future__ import annotations

import argparse
import csv
import functools
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from measure import check, extra_memory, forward_backward, interleaved, views
from peers import PEERS
from tables import times_table

import simclr_ext
from simclr_ext import _backend, nt_xent_loss

D = 128
SIZES = (32, 128, 512, 1024, 4096)
MM = 4096  # side of the square product whose rate is called the machine's
GRADIENT_UNITS = 4  # (2N)^2 D FLOP each: forward 1, its repetition 1, two products
Row = dict[str, object]


def main() -> None:
    """Run everything, print the tables, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each timing")
    args = parser.parse_args()

    threads = torch.get_num_threads()
    print(environment(threads))
    rows = [row for n in SIZES for row in time_peers(n, threads, args.rounds)]
    rows += [row for t in sorted({threads, 1}) for row in time_efficiency(t, args.rounds)]
    rows += memory(threads)
    print_tables(rows)
    if args.out is not None:
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, sorted({key for row in rows for key in row}))
            writer.writeheader()
            writer.writerows(rows)


def environment(threads: int) -> str:
    """Return what the numbers were measured on."""
    module = _backend.load()
    return (
        f"simclr-ext {simclr_ext.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {module.active_isa()}, {threads} threads, "
        f"float32, D = {D}, {date.today()}"
    )


def time_peers(n: int, threads: int, rounds: int) -> list[Row]:
    """Time forward + backward of every peer at N = n."""
    calls: dict[str, Callable[[], object]] = {}
    for name, loss in PEERS.items():
        check(loss, n, D)
        calls[name] = functools.partial(forward_backward, loss, views(n, D))
    timings = interleaved(calls, rounds)
    ours = timings["simclr-ext"].median
    return [
        {
            "what": "forward + backward",
            "peer": name,
            "n": n,
            "threads": threads,
            "ms": 1e3 * t.median,
            "ms_low": 1e3 * t.low,
            "ms_high": 1e3 * t.high,
            "ratio": t.median / ours,
        }
        for name, t in timings.items()
    ]


def time_efficiency(threads: int, rounds: int) -> list[Row]:
    """Time the loss at N = 4096 beside the machine's product, and its forward pass alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    n = 4096
    inputs = views(n, D)
    a, out = torch.randn(MM, MM), torch.empty(MM, MM)

    def forward_alone() -> None:
        with torch.no_grad():
            nt_xent_loss(*inputs)

    timings = interleaved(
        {
            "mm": lambda: torch.mm(a, a, out=out),
            "both": functools.partial(forward_backward, nt_xent_loss, inputs),
            "forward": forward_alone,
        },
        rounds,
    )
    torch.set_num_threads(before)
    mm_rate = 2 * MM**3 / timings["mm"].median
    rate = GRADIENT_UNITS * (2 * n) ** 2 * D / timings["both"].median
    common: Row = {"peer": "simclr-ext", "n": n, "threads": threads}
    return [
        {**common, "what": "mm GFLOP/s", "ratio": mm_rate / 1e9},
        {**common, "what": "loss GFLOP/s", "ratio": rate / 1e9},
        {**common, "what": "efficiency", "ratio": rate / mm_rate},
        {
            **common,
            "what": "forward alone / (forward + backward)",
            "ratio": timings["forward"].median / timings["both"].median,
        },
    ]


def memory(threads: int) -> list[Row]:
    """Measure the peak memory of every peer at N = 4096, and ours at N = 32,768."""
    cases = [(name, 4096) for name in PEERS] + [("simclr-ext", 32_768)]
    mib = 2**20
    return [
        {
            "what": "extra memory",
            "peer": name,
            "n": n,
            "threads": threads,
            "mib": extra_memory(name, n, D, threads) / mib,
            "mib_allowed": (2 * 2 * n * D * 4 + threads * 4 * mib) / mib,
        }
        for name, n in cases
    ]


def print_tables(rows: list[Row]) -> None:
    """Print the rows as Markdown."""
    timed = [row for row in rows if row["what"] == "forward + backward"]
    print(f"\nForward + backward\n\n{times_table(timed)}")
    print("\n| N = 4,096 | threads | |\n|---|---:|---:|")
    for row in rows:
        if "ratio" in row and row not in timed:
            print(f"| {row['what']} | {row['threads']} | {row['ratio']:.3g} |")
    print("\n| memory beyond inputs, outputs, gradients | N | MiB |\n|---|---:|---:|")
    for row in rows:
        if row["what"] == "extra memory":
            print(f"| {row['peer']} | {row['n']:,} | {row['mib']:,.0f} |")


if __name__ == "__main__":
    main()
