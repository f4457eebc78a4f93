"""Times the losses of the family against dense ones and against other libraries.

    python -m benchmarks.loss.family [--n 8192] [--d 128 512] [--only TEXT] [--out family.csv]

Forward + backward of queries and keys, or views, [N, D] float32, at T = 0.1. For each loss: ours,
the dense loss as usually written in PyTorch, the same compiled, and libraries that are installed.
Each is checked against the dense loss in float64 at a small N before it is timed; all of one loss
are timed in the same rounds. Memory is the peak of torch's allocator beyond inputs and gradients.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import simclr_ext as ours
from benchmarks import RESULTS, processor
from benchmarks.loss.memory import MIB, allocator_peak
from benchmarks.loss.rows import append
from benchmarks.loss.tables import Table
from simclr_ext.backends import loader
from simclr_ext.bench.baselines import Loss
from simclr_ext.bench.measure import CHECKED, check, forward_backward, interleaved, views

OURS = "simclr-ext"
TEMPERATURE = 0.1
COLUMNS = ("machine", "isa", "torch", "threads", "loss", "n", "d", "peer", "ms", "ms_low",
           "ms_high", "ratio", "allocated_mib", "foreign")  # fmt: skip


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """Return the similarities, [N, N]."""
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def diagonal(z: Tensor) -> Tensor:
    """Return the class of each row, its own number."""
    return torch.arange(len(z), device=z.device)


def labels(z: Tensor) -> Tensor:
    """Return labels of 100 classes."""
    return diagonal(z) % 100


def info_nce(q: Tensor, k: Tensor, t: float) -> Tensor:
    """The cross-entropy of the dense logits."""
    return F.cross_entropy(cosines(q, k) / t, diagonal(q))


def clip(q: Tensor, k: Tensor, t: float) -> Tensor:
    """The mean of both directions."""
    logits = cosines(q, k) / t
    return (F.cross_entropy(logits, diagonal(q)) + F.cross_entropy(logits.T, diagonal(q))) / 2


def sup_con(z0: Tensor, z1: Tensor, t: float) -> Tensor:
    """All views of a class are positives."""
    z, label = torch.cat([z0, z1]), labels(z0).repeat(2)
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_p = (cosines(z, z) / t).masked_fill(own, -torch.inf).log_softmax(1)
    positive = (label[:, None] == label) & ~own
    return -(log_p.masked_fill(~positive, 0).sum(1) / positive.sum(1)).mean()


def dcl(z0: Tensor, z1: Tensor, t: float) -> Tensor:
    """The positive is not in the denominator."""
    z = torch.cat([z0, z1])
    logits = cosines(z, z) / t
    index = diagonal(z) % len(z0)
    pairs = index[:, None] == index
    lse = logits.masked_fill(pairs, -torch.inf).logsumexp(1)
    return (lse - logits.diagonal(len(z0)).repeat(2)).mean()


def siglip(q: Tensor, k: Tensor, t: float) -> Tensor:
    """A sigmoid for every pair."""
    logits = cosines(q, k) / t - 10
    sign = 2 * torch.eye(len(q), device=q.device) - 1
    return -F.logsigmoid(sign * logits).sum() / len(q)


def both_views(z0: Tensor, z1: Tensor, t: float) -> Tensor:
    """Our SupCon of two views."""
    return ours.sup_con_loss(torch.stack([z0, z1], 1), labels(z0), t)


def our_clip(q: Tensor, k: Tensor, t: float) -> Tensor:
    """Our InfoNCE in both directions."""
    return ours.info_nce_loss(q, k, t, symmetric=True)


def our_siglip(q: Tensor, k: Tensor, t: float) -> Tensor:
    """Our sigmoid loss."""
    return ours.siglip_loss(q, k, 1 / t)


FAMILY: dict[str, tuple[Loss, Loss]] = {
    "InfoNCE": (ours.info_nce_loss, info_nce),
    "CLIP": (our_clip, clip),
    "SupCon": (both_views, sup_con),
    "DCL": (ours.dcl_loss, dcl),
    "SigLIP": (our_siglip, siglip),
}


def libraries(name: str) -> Iterator[tuple[str, Loss]]:
    """Yield the losses of that name of the libraries that are installed."""
    makers: dict[str, dict[str, Callable[[], Loss]]] = {
        "InfoNCE": {"info-nce-pytorch": _info_nce_pytorch, "cut-cross-entropy": _cut},
        "CLIP": {"open_clip": _open_clip},
        "SupCon": {"pytorch-metric-learning": _metric_learning},
        "DCL": {"lightly": _lightly},
        "SigLIP": {"open_clip": _open_clip_siglip},
    }
    for library, make in makers[name].items():
        try:
            yield library, make()
        except ImportError as error:
            print(f"{library}: {error}")


def _info_nce_pytorch() -> Loss:
    from info_nce import info_nce as loss

    return lambda q, k, t: loss(q, k, temperature=t)


def _cut() -> Loss:
    from cut_cross_entropy import linear_cross_entropy

    def loss(q: Tensor, k: Tensor, t: float) -> Tensor:
        q, k = F.normalize(q, dim=1) / t, F.normalize(k, dim=1)
        value: Tensor = linear_cross_entropy(q, k, diagonal(q), impl="torch_compile")
        return value

    return loss


def _open_clip() -> Loss:
    from open_clip.loss import ClipLoss

    criterion = ClipLoss()
    return lambda q, k, t: criterion(F.normalize(q, dim=1), F.normalize(k, dim=1), 1 / t)


def _open_clip_siglip() -> Loss:
    from open_clip.loss import SigLipLoss

    criterion = SigLipLoss()
    return lambda q, k, t: criterion(F.normalize(q, dim=1), F.normalize(k, dim=1), 1 / t, -10)


def _metric_learning() -> Loss:
    from pytorch_metric_learning.losses import SupConLoss

    def loss(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        value: Tensor = SupConLoss(t)(torch.cat([z0, z1]), labels(z0).repeat(2))
        return value

    return loss


def _lightly() -> Loss:
    from lightly.loss import DCLLoss

    return lambda z0, z1, t: DCLLoss(t)(z0, z1)


def main(argv: list[str] | None = None) -> int:
    """Measure, print and append rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[8192])
    parser.add_argument("--d", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--only", default="", help="losses with this in their name")
    parser.add_argument("--seconds", type=float, default=30.0, help="for the rounds of one loss")
    parser.add_argument("--out", type=Path, default=RESULTS / "family.csv")
    args = parser.parse_args(argv)
    for name in FAMILY:
        for n in args.n:
            for d in args.d:
                if args.only in name:
                    append(args.out, COLUMNS, measure(name, n, d, args.seconds))
    return 0


def table(path: Path = RESULTS / "family.csv") -> str:
    """Return the tables of docs/benchmarks.md, one for each machine, the last measured first."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    machines = dict.fromkeys((row["machine"], row["isa"], row["threads"]) for row in rows)
    parts = []
    for machine, isa, threads in reversed(machines):
        of_machine = [row for row in rows if (row["machine"], row["isa"]) == (machine, isa)]
        parts.append(f"{machine}, {isa}, {threads} threads:\n\n{_table_of(of_machine)}")
    return "\n\n".join(parts)


def _table_of(rows: list[dict[str, str]]) -> str:
    """Return the times of a machine, and those of others as multiples of ours."""
    peers = [peer for peer in dict.fromkeys(row["peer"] for row in rows) if peer != OURS]
    found = {(row["loss"], row["n"], row["d"], row["peer"]): row for row in rows}
    body = []
    for loss, n, d in dict.fromkeys(key[:3] for key in found):
        ours = found[loss, n, d, OURS]
        cells = [f"{float(ours['ms']):,.0f} ms, {float(ours['allocated_mib']):,.0f} MiB"]
        for peer in peers:
            row = found.get((loss, n, d, peer))
            ratio = "" if row is None else f"{float(row['ratio']):.2f}x"
            memory = "" if row is None else f", {float(row['allocated_mib']):,.0f} MiB"
            cells.append(ratio + memory)
        body.append([f"{loss}, N = {int(n):,}, D = {d}", *cells])
    return Table("", ["", OURS, *peers], body).grid()


def measure(name: str, n: int, d: int, seconds: float) -> list[dict[str, object]]:
    """Return the rows of a loss at one size."""
    fused, dense = FAMILY[name]
    torch.compiler.reset()
    contestants: dict[str, Loss] = {OURS: fused, "eager": dense}
    contestants["torch.compile"] = torch.compile(dense, dynamic=False)
    contestants |= libraries(name)
    small, inputs = views(min(n, CHECKED), d), views(n, d)
    for loss in contestants.values():
        check(loss, dense, small, TEMPERATURE)
    torch.compiler.reset()
    calls = {
        peer: functools.partial(forward_backward, loss, inputs, TEMPERATURE)
        for peer, loss in contestants.items()
    }
    timings = interleaved(calls, seconds=seconds)
    common = {
        "machine": processor(),
        "isa": loader.load().active_isa(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "loss": name,
        "n": n,
        "d": d,
    }
    found = []
    for peer, timing in timings.items():
        ratio = timing.median / timings[OURS].median
        print(f"{name:8} N = {n:,} D = {d}: {peer:24} {1e3 * timing.median:9.1f} ms {ratio:6.2f}x")
        row = {"peer": peer, "ms": 1e3 * timing.median, "ms_low": 1e3 * timing.low}
        row |= {"ms_high": 1e3 * timing.high, "ratio": ratio, "foreign": timing.foreign}
        found.append(common | row | {"allocated_mib": allocator_peak(calls[peer]) / MIB})
    return found


if __name__ == "__main__":
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    raise SystemExit(main())
