"""Predicts time, traffic and memory of the loss on many GPUs, by an alpha-beta model. NOT measured.

    python -m benchmarks.scale_model [--plot docs/scale-model.png]

A message of b bytes takes alpha + b / beta. G ranks, eight to a node, share a batch of N pairs,
M = 2N rows of D numbers in bfloat16; gradients travel in float32. Forward and backward pass:

    ours            4 M^2 D / G FLOP: each pair of two ranks' rows once
      gather        an all-gather of the rows, of which M / 2 are kept for the backward pass;
                    all-to-alls of M / 2 sums and gradients
      ring          the same M / 2 rows, sums and gradients from rank to rank; the next rows travel
                    while the current ones are compared
    full square     6 M^2 D / G FLOP in matrix products, and the M x M / G logits read and written
                    EAGER_PASSES times, as eager PyTorch does after an all-gather; gradients are
                    summed in a reduce-scatter. Where they do not fit into the GPU it cannot run

Inside a node all links are NVLink; between nodes each GPU has one adapter. An all-gather crosses
into a node once for all of its GPUs; what one rank sends to another is of no use to its neighbors.

The same model with the rate of one process and the bandwidth of the loopback device predicts the
rows of results/processes.csv for more ranks than one; `calibration` says how far off it is.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import RESULTS
from benchmarks.gpu.model.figures import EAGER_PASSES
from benchmarks.loss import processes
from benchmarks.loss.tables import Table

DIM = 128
GPUS_OF_A_NODE = 8
RANKS = (8, 64, 512, 4096)
PAIRS = (2**16, 2**20, 2**24)
METHODS = ("gather", "ring", "full square")
PIECES = 2  # a rank's rows visit in two parts


@dataclass(frozen=True)
class Machine:
    """Rates in SI units, of one rank.

    Args:
        products: FLOP per second that the loss's kernels reach.
        dense: FLOP per second of plain matrix products.
        memory: Bytes per second from and to the memory.
        capacity: Bytes of memory.
        node: Bytes per second between ranks of a node, in one direction.
        network: Bytes per second of a rank's adapter, in one direction.
        alpha_node: Seconds that a message inside a node takes at least,
        alpha_network: and one between nodes.
        ranks_of_a_node: Their number.
        element: Bytes of a number of a row.
    """

    products: float
    dense: float
    memory: float
    capacity: float
    node: float
    network: float
    alpha_node: float
    alpha_network: float
    ranks_of_a_node: int
    element: int


# H100 SXM: NVIDIA's data sheet (80 GB, 3.35 TB/s, NVLink 900 GB/s in both directions together, 989
# TFLOP/s), of which plain products reach about 65 %, and FlashAttention-2, which has the structure
# and the instructions of our kernels, 330 TFLOP/s (arXiv 2407.08608, figure 5); in the backward
# pass these compute a similarity for each of its rows, so 4/5 of that counts. InfiniBand NDR has
# 400 Gb/s, an adapter for each GPU (DGX H100 data sheet). Latencies: NCCL's tuning.cc, the Simple
# protocol in a ring: 8.4 us, and 3.4 us by NVLink or 14 us by the network.
H100 = Machine(264e12, 640e12, 3.35e12, 80e9, 450e9, 50e9, 11.8e-6, 22.4e-6, GPUS_OF_A_NODE, 2)
# One thread each, on one machine: gloo copies through the loopback device.
GLOO_BANDWIDTH, GLOO_LATENCY = 1e9, 150e-6


@dataclass(frozen=True)
class Cost:
    """What one rank takes for a step of the loss.

    Args:
        compute: Seconds.
        exchange: Seconds that are not under computation.
        received: Bytes.
        memory: Bytes beyond its views and their gradients.
    """

    compute: float
    exchange: float
    received: float
    memory: float

    @property
    def seconds(self) -> float:
        """The time of a step."""
        return self.compute + self.exchange


def cost(method: str, pairs: int, ranks: int, machine: Machine = H100, dim: int = DIM) -> Cost:
    """Return what a method costs with N pairs on so many ranks."""
    rows = 2 * pairs
    own = rows / ranks
    if method == "full square":
        return _full_square(rows, ranks, machine, dim)
    compute = 4 * rows**2 * dim / ranks / machine.products
    if ranks == 1:
        return Cost(compute, 0.0, 0.0, rows * dim * (machine.element + 4))
    half = rows / 2
    sums, gradients = half * 8, half * dim * 4
    if method == "gather":
        gathered, numbers = rows * dim * machine.element, 2 * rows * 8
        exchange = _everyone(gathered + numbers, ranks, machine, calls=2)
        exchange += _one_to_one(sums + gradients, ranks, machine, calls=2)
        forward = (rows + half + 2 * own) * dim * machine.element
        backward = (half + 2 * own) * dim * machine.element + (half * 3 + own * 3) * dim * 4
        received = gathered + numbers + sums + gradients
        return Cost(compute, exchange, received, max(forward, backward))
    steps = PIECES * max(1, ranks // 2)
    visitors = 2 * half * dim * machine.element
    home = _one_to_one(sums + gradients, ranks, machine, calls=2 * steps)
    hidden = max(0.0, _one_to_one(visitors, ranks, machine, calls=2 * steps) - compute)
    memory = (3 * own * machine.element + 3 * own * 4) * dim
    return Cost(compute, home + hidden, visitors + sums + gradients, memory)


def _full_square(rows: int, ranks: int, machine: Machine, dim: int) -> Cost:
    logits = rows**2 / ranks * 4
    passes = EAGER_PASSES.value * logits / machine.memory
    compute = 6 * rows**2 * dim / ranks / machine.dense + passes
    there, back = rows * dim * machine.element, rows * dim * machine.element
    exchange = _everyone(there + back, ranks, machine, calls=2) if ranks > 1 else 0.0
    return Cost(compute, exchange, there + back, 3 * logits + there + back)


def _everyone(size: float, ranks: int, machine: Machine, calls: int) -> float:
    """Return the seconds of an all-gather or reduce-scatter, in a ring over all ranks."""
    nodes = -(-ranks // machine.ranks_of_a_node)
    in_node = size * (ranks - 1) / ranks / machine.node
    between = size * (nodes - 1) / nodes / (machine.network * machine.ranks_of_a_node)
    hops = (ranks - nodes) * machine.alpha_node + (nodes - 1) * machine.alpha_network
    return in_node + between + calls * hops


def _one_to_one(size: float, ranks: int, machine: Machine, calls: int) -> float:
    """Return the seconds of what each rank sends to others, half of all ranks in turn."""
    outside = max(0.0, 1 - machine.ranks_of_a_node / ranks)
    seconds = size * (outside / machine.network + (1 - outside) / machine.node)
    return seconds + calls * (machine.alpha_network if outside else machine.alpha_node)


def table() -> str:
    """Return the table of docs/processes.md."""
    body = []
    for pairs in PAIRS:
        for ranks in RANKS:
            cells = [_cell(cost(method, pairs, ranks)) for method in METHODS]
            body.append([f"{pairs:,}", f"{ranks:,}", *cells])
    return Table("", ["N in all", "ranks", *METHODS], body).grid()


def _cell(found: Cost) -> str:
    if found.memory > H100.capacity:
        return f"- ({found.memory / 1e9:,.0f} GB)"
    return (
        f"{_time(found.seconds)}, {100 * found.exchange / found.seconds:.0f} %, "
        f"{_size(found.received)}, {_size(found.memory)}"
    )


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{1e3 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def calibration(path: Path = RESULTS / "processes.csv") -> str:
    """Return measured and predicted times of the rows with several ranks, and the largest error."""
    rows = [row for row in processes.read(path) if row["loss"].startswith("simclr-ext")]
    body, errors = [], []
    for row in rows:
        ranks, pairs, dim = int(row["ranks"]), int(row["n"]), int(row["d"])
        if ranks == 1:
            continue
        machine = _of_this_run(rows, row)
        predicted = 1e3 * cost(row["loss"].split(", ")[1], pairs, ranks, machine, dim).seconds
        errors.append(predicted / float(row["ms"]) - 1)
        cells = [
            f"{float(row['ms']):,.0f} ms",
            f"{predicted:,.0f} ms",
            f"{100 * errors[-1]:+.0f} %",
        ]
        body.append([f"{row['loss']}, {ranks} ranks", *cells])
    largest = max(errors, key=abs)
    grid = Table("", ["", "measured", "predicted", "error"], body).grid()
    return f"{grid}\n\nThe largest error of the model is {100 * largest:+.0f} %."


def _of_this_run(rows: list[dict[str, str]], row: dict[str, str]) -> Machine:
    """Return a machine with the rate of one process; more ranks than cores share them."""
    alone = next(r for r in rows if r["ranks"] == "1" and r["machine"] == row["machine"])
    work = 4 * (2 * int(row["n"])) ** 2 * int(row["d"])
    rate = work / (float(alone["ms"]) / 1e3) * min(1.0, int(row["cores"]) / int(row["ranks"]))
    ranks = int(row["ranks"])
    links = (GLOO_BANDWIDTH, GLOO_BANDWIDTH, GLOO_LATENCY, GLOO_LATENCY)
    return Machine(rate, rate, 1e10, 1e12, *links, ranks, 4)


def chart() -> Figure:
    """Return the predicted time and memory of a rank over the number of ranks."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    counts = [2**k for k in range(3, 13)]
    for axis, pairs in zip(figure.subplots(1, len(PAIRS)), PAIRS, strict=True):
        for method, color in zip(METHODS, ("#bd1f01", "#3f90da", "#717581"), strict=True):
            fits = [
                (ranks, found.seconds)
                for ranks in counts
                if (found := cost(method, pairs, ranks)).memory <= H100.capacity
            ]
            if fits:
                axis.loglog(*zip(*fits, strict=True), color=color, marker="o", ms=3, label=method)
        ideal = [cost("gather", pairs, ranks).compute for ranks in counts]
        axis.loglog(counts, ideal, color="black", lw=0.8, ls=":", label="computation alone")
        axis.set(title=f"N = {pairs:,}", xlabel="GPUs", ylabel="seconds of a step (model)")
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=8)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Print the predictions and the error of the calibration; draw them on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args(argv)
    print(f"A model, not a measurement.\n\n{table()}\n\n{calibration()}")
    if args.plot is not None:
        chart().savefig(args.plot, dpi=130)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
