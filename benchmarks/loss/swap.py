"""Losses of other libraries beside those of simclr_ext.compat that replace them.

    python -m benchmarks.loss.swap [--sizes 256,2048] [--out results/swap.csv]

Each pair is compared first, ours against theirs in float64: value and gradients. Then forward and
backward are timed in the same rounds, on one thread and in its processor time, which other
processes hardly change; and the most memory that torch held in a call is counted.
"""

from __future__ import annotations

import argparse
import csv
import functools
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import RESULTS, processor, write_rows
from benchmarks.loss.memory import MIB, allocator_peak
from benchmarks.loss.tables import Table
from simclr_ext.bench.baselines import Loss
from simclr_ext.bench.measure import check, forward_backward, views
from simclr_ext.bench.memory import allowance, attempt, limited

OUT = RESULTS / "swap.csv"
DIM, TEMPERATURE = 128, 0.1
CHECKED = 128  # the largest N that is compared: one of the libraries takes O(N^3) memory
ROUNDS, FEWEST_ROUNDS = 25, 3
SECONDS = 3.0  # of processor time for each side of a pair, after which no round begins
SIDES = ("theirs", "ours")
COLUMNS = (
    *("run", "machine", "cores", "threads", "torch", "library", "version", "loss", "n", "d"),
    *("temperature", "error", "rounds"),
    *(f"{side}_{what}" for side in SIDES for what in ("status", "ms", "ms_low", "ms_high", "mib")),
)
Criterion = Callable[..., Tensor]


@dataclass(frozen=True)
class Swap:
    """A loss of a library, and its namesake here.

    Attributes:
        library: Package to install.
        module: Theirs; ours is that of the library's name in `simclr_ext.compat`.
        loss: For people.
        make: Makes the criterion of either module.
        call: Calls it with the views.
    """

    library: str
    module: str
    loss: str
    make: Callable[[Any], Criterion]
    call: Callable[[Criterion, Tensor, Tensor], Tensor] = lambda loss, z0, z1: loss(z0, z1)

    def made(self, side: str, dtype: torch.dtype = torch.float32) -> Loss:
        """Return theirs or ours; random numbers at the start are the same."""
        ours = f"simclr_ext.compat.{self.module.partition('.')[0]}"
        module = importlib.import_module(self.module if side == "theirs" else ours)
        torch.manual_seed(0)
        criterion = self.make(module)
        if isinstance(criterion, torch.nn.Module):
            criterion.to(dtype)
        return lambda z0, z1, _: self.call(criterion, z0, z1)


def _of_images(loss: Criterion, z0: Tensor, z1: Tensor) -> Tensor:
    return loss(torch.cat([z0, z1]), torch.arange(len(z0)).repeat(2))


def _of_classes(loss: Criterion, z0: Tensor, z1: Tensor) -> Tensor:
    return loss(torch.cat([z0, z1]), torch.arange(len(z0)).repeat(2) % 10)


def _of_unit_rows(loss: Criterion, z0: Tensor, z1: Tensor, *more: float) -> Tensor:
    z0, z1 = (torch.nn.functional.normalize(z, dim=1) for z in (z0, z1))
    return loss(z0, z1, 1 / TEMPERATURE, *more)


LIGHTLY = functools.partial(Swap, "lightly", "lightly.loss")
METRIC = functools.partial(Swap, "pytorch-metric-learning", "pytorch_metric_learning.losses")
OPEN_CLIP = functools.partial(Swap, "open-clip-torch", "open_clip.loss")
INFO_NCE = functools.partial(Swap, "info-nce-pytorch", "info_nce")
SWAPS = (
    LIGHTLY("NTXentLoss", lambda m: m.NTXentLoss(TEMPERATURE)),
    LIGHTLY(
        "NTXentLoss, a bank of 4096",
        lambda m: m.NTXentLoss(TEMPERATURE, memory_bank_size=(4096, DIM)),
    ),
    LIGHTLY("DCLLoss", lambda m: m.DCLLoss(TEMPERATURE)),
    METRIC("NTXentLoss, two views", lambda m: m.NTXentLoss(TEMPERATURE), _of_images),
    METRIC("SupConLoss, 10 classes", lambda m: m.SupConLoss(TEMPERATURE), _of_classes),
    OPEN_CLIP("ClipLoss", lambda m: m.ClipLoss(), _of_unit_rows),
    OPEN_CLIP(
        "SigLipLoss",
        lambda m: m.SigLipLoss(),
        lambda loss, z0, z1: _of_unit_rows(loss, z0, z1, -10.0),
    ),
    INFO_NCE("InfoNCE", lambda m: m.InfoNCE(TEMPERATURE)),
    INFO_NCE(
        "InfoNCE, unpaired negatives",
        lambda m: m.InfoNCE(TEMPERATURE),
        lambda loss, z0, z1: loss(z0, z1, z1.detach().flip(0)),
    ),
)


def main(argv: list[str] | None = None) -> int:
    """Measure all pairs and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="256,2048", help="N, separated by commas")
    parser.add_argument("--out", type=Path, default=OUT, help="CSV file to write")
    args = parser.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    measured = []
    try:
        for row in run([int(n) for n in args.sizes.split(",")]):
            print(row["loss"], row["n"], *(row.get(f"{side}_ms") for side in SIDES), flush=True)
            measured.append(row)
    finally:
        torch.set_num_threads(before)
    write_rows(args.out, COLUMNS, measured)
    return 0


def run(sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Yield a row for each pair and size; libraries that are not installed are left out."""
    common = {
        "run": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"),
        "machine": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "d": DIM,
        "temperature": TEMPERATURE,
    }
    for swap in SWAPS:
        try:
            swap.made("theirs")
        except ImportError as error:
            print(f"{swap.library} {swap.loss}: skipped: {error}", flush=True)
            continue
        named = {"library": swap.library, "version": version(swap.library), "loss": swap.loss}
        for n in sizes:
            yield common | named | {"n": n} | measure(swap, n)


def measure(swap: Swap, n: int) -> dict[str, Any]:
    """Compare, then time both sides of a pair.

    Raises:
        ValueError: If they differ.
    """
    smaller = views(min(n, CHECKED), DIM)
    theirs = swap.made("theirs", torch.float64)
    row: dict[str, Any] = {"error": f"{check(swap.made('ours'), theirs, smaller, TEMPERATURE):.1e}"}
    calls: dict[str, Callable[[], object]] = {}
    with limited(allowance()):
        for side in SIDES:
            inputs = views(n, DIM)
            call = functools.partial(forward_backward, swap.made(side), inputs, TEMPERATURE)
            status = row[f"{side}_status"] = attempt(call)
            if status != "ok":
                continue
            calls[side] = call
            gradients = sum(z.nbytes for z in inputs)
            for z in inputs:
                z.grad = None
            row[f"{side}_mib"] = f"{(allocator_peak(call) - gradients) / MIB:.2f}"
        times = interleaved(calls)
    for side, values in times.items():
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        row["rounds"] = len(values)
        for what, value in (("ms", median), ("ms_low", low), ("ms_high", high)):
            row[f"{side}_{what}"] = f"{1e3 * value:.4g}"
    return row


def interleaved(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the processor seconds of each call, made in turn, round after round."""
    times: dict[str, list[float]] = {side: [] for side in calls}
    for done in range(ROUNDS):
        if done >= FEWEST_ROUNDS and max(map(sum, times.values())) > SECONDS:
            break
        for side, call in calls.items():
            start = time.process_time()
            call()
            times[side].append(time.process_time() - start)
    return times


def read(path: Path = OUT) -> list[dict[str, str]]:
    """Return the rows of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, str]]) -> str:
    """Return the table of docs/swap.md: how many times faster, and how much less memory."""
    sizes = list(dict.fromkeys(row["n"] for row in rows))
    found = {(row["library"], row["loss"], row["n"]): row for row in rows}
    header = ["", *(f"{what} N = {n}" for what in ("time,", "memory,") for n in sizes)]
    body = [
        [f"{library}: {loss}"]
        + [_factor(found[library, loss, n], what) for what in ("ms", "mib") for n in sizes]
        for library, loss in dict.fromkeys(key[:2] for key in found)
    ]
    return Table("", header, body).grid()


def _factor(row: Mapping[str, str], what: str) -> str:
    """Return theirs / ours."""
    theirs, ours = row[f"theirs_{what}"], row[f"ours_{what}"]
    if not theirs:
        return row["theirs_status"]
    factor = float(theirs) / float(ours)
    return f"{factor:.1f}x" if factor < 20 else f"{factor:.0f}x"


if __name__ == "__main__":
    sys.exit(main())
