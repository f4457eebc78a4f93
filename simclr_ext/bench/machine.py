"""The lower bound of every time on this machine (roofline).

NT-Xent needs (2N)^2 D FLOP for half of the symmetric product and as many again for each of three
further products of the gradient, (2N)^2 / 2 exponentials per pass (docs/math.md), and must read and
write views and gradients. Each of these takes some time at the machine's float32 rate, measured
beside the losses; the longest is a lower bound for any loss that does not store the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from simclr_ext.bench.measure import Timing

Pass = Literal["forward", "forward + backward"]
PASSES: tuple[Pass, ...] = ("forward", "forward + backward")
# In units of (2N)^2 D FLOP: forward 1; backward recomputes it and adds two products.
UNITS: dict[Pass, int] = {"forward": 1, "forward + backward": 4}

_SIDE = 2048  # rows and columns of the matrices
_CACHED = 2**17  # floats whose exponentials are taken: 512 KiB in, 512 KiB out
_STREAMED = 2**25  # floats that are copied: 128 MiB, larger than the caches


@dataclass(frozen=True)
class Rates:
    """What the machine does per second.

    Attributes:
        mm: FLOP/s of `torch.mm`, 2,048 x 2,048 matrices of float32.
        product: The same with the faster of `torch.mm` and oneDNN, if torch has oneDNN: MKL, which
            `torch.mm` calls, does not use AVX-512 on processors other than Intel's.
        exp: Exponentials per second, of `torch.exp` within the L2 cache.
        memory: Bytes per second read and written by a copy beyond the caches.
    """

    mm: float
    product: float
    exp: float
    memory: float


def probes() -> dict[str, Callable[[], object]]:
    """Return the calls whose timings :func:`rates` turns into rates."""
    a, product = torch.randn(_SIDE, _SIDE), torch.empty(_SIDE, _SIDE)
    x, y = -torch.rand(_CACHED), torch.empty(_CACHED)
    source, target = torch.ones(_STREAMED), torch.empty(_STREAMED)
    onednn = {}
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        linear = torch.ops.mkldnn._linear_pointwise.default  # a a^T
        onednn["oneDNN"] = lambda: linear(a, a, None, "none", [], "")
    return {
        "mm": lambda: torch.mm(a, a, out=product),
        **onednn,
        "exp": lambda: torch.exp(x, out=y),
        "copy": lambda: target.copy_(source),
    }


def rates(timings: Mapping[str, Timing]) -> Rates:
    """Return the machine's rates from the timings of its :func:`probes`."""
    products = [2 * _SIDE**3 / timings[name].median for name in ("mm", "oneDNN") if name in timings]
    return Rates(
        mm=products[0],
        product=max(products),
        exp=_CACHED / timings["exp"].median,
        memory=2 * 4 * _STREAMED / timings["copy"].median,
    )


def flop(n: int, d: int, what: Pass) -> float:
    """Return the floating-point operations that NT-Xent's products need, by symmetry."""
    return UNITS[what] * (2.0 * n) ** 2 * d


def floor(n: int, d: int, what: Pass, itemsize: int, machine: Rates) -> float:
    """Return a lower bound, in seconds, of the time of NT-Xent on a machine.

    Args:
        n: N, pairs of the batch.
        d: D, size of an embedding.
        what: Forward alone, or with the gradients of both views.
        itemsize: Bytes per element of the views.
        machine: The machine's rates.
    """
    passes = 1 + PASSES.index(what)
    return max(
        flop(n, d, what) / machine.product,
        passes * (2.0 * n) ** 2 / 2 / machine.exp,
        passes * 2 * n * d * itemsize / machine.memory,
    )
