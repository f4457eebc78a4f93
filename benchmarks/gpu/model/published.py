"""What others measured of kernels whose work is of the same shape as ours, beside the model.

FlashAttention's forward pass has two products and an exponential for each pair, like our backward
pass; siglip-kernel computes the loss of our sigmoid_loss; Liger's cross-entropy has a product and
an exponential, like the forward pass of wide views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.gpu.model import fused, wide
from benchmarks.gpu.model.figures import ERROR, GPUS
from benchmarks.gpu.model.instructions import kernels, of_file

_FA2 = "FlashAttention-2, forward"
_FA3 = "FlashAttention-3, forward"
_FIGURE_5 = "arXiv:2407.08608, figure 5"
_WGMMA = "wgmma: it is not held to `mma.sync`'s 64 %, nor does it load operands into registers"


@dataclass(frozen=True)
class Published:
    """A measurement of others.

    Attributes:
        what: The kernel.
        on: The GPU that it ran on.
        dim: D.
        measured: In `unit`.
        unit: "TFLOP/s", "of peak" or "ms".
        source: Where it is published.
        ours: What the model says of our kernel of this shape, in the same unit.
        why: Why they differ by more than ERROR; "" if they do not.
    """

    what: str
    on: str
    dim: int
    measured: float
    unit: str
    source: str
    ours: Callable[[], float]
    why: str = ""

    def speed(self) -> float:
        """Return how many times as fast as the measurement ours is predicted to be."""
        ratio = self.ours() / self.measured
        return 1 / ratio if self.unit == "ms" else ratio


def _tflops(gpu: str, dim: int) -> Callable[[], float]:
    """Return a function for the rate of our backward pass's loop, with bf16."""

    def rate() -> float:
        row = kernels(GPUS[gpu].arch, "Bf16", dim, of_file())["backward"]
        return fused.loop_flops(row, GPUS[gpu]) / 1e12

    return rate


def _of_peak(gpu: str, dim: int) -> Callable[[], float]:
    return lambda: 1e12 * _tflops(gpu, dim)() / GPUS[gpu].peak


def _sigmoid_ms(gpu: str, side: int, dim: int) -> Callable[[], float]:
    tiles = wide.rectangle(side, side)
    return lambda: sum(wide.of_passes(GPUS[gpu], tiles, 2 * side, dim).values())


def _wide_forward_tflops(gpu: str, rows: int, columns: int, dim: int) -> Callable[[], float]:
    tiles = wide.rectangle(rows, columns)

    def rate() -> float:
        forward = wide.of_passes(GPUS[gpu], tiles, rows + columns, dim)["forward"]
        return 2e-9 * tiles.pairs * dim / forward

    return rate


PUBLISHED = (
    Published(
        _FA2, "A100", 128, 230, "TFLOP/s", "arXiv:2307.08691, section 4.1", _tflops("A100", 128)
    ),
    Published(
        _FA2, "RTX A5000, 100 KiB of shared memory like the L40S", 64, 0.74, "of peak",
        "github.com/gpu-mode/ring-attention, issue 10: 82 of 111 TFLOP/s", _of_peak("L40S", 64),
    ),
    Published(_FA2, "H100", 64, 324, "TFLOP/s", _FIGURE_5, _tflops("H100", 64)),
    Published(_FA2, "H100", 128, 370, "TFLOP/s", _FIGURE_5, _tflops("H100", 128)),
    Published(
        _FA2, "H100", 256, 326, "TFLOP/s", _FIGURE_5, _tflops("H100", 256),
        "at D = 256 shared memory limits both: by the same count FlashAttention-2 keeps it busy "
        "over 80 % of the time, where the model takes 65 %, and our tiles of 64 rows copy columns "
        "twice as often",
    ),
    Published(
        _FA3, "H100", 64, 497, "TFLOP/s", _FIGURE_5, _tflops("H100", 64),
        "wgmma, and exponentials of one warpgroup under the products of another",
    ),
    Published(_FA3, "H100", 128, 648, "TFLOP/s", _FIGURE_5, _tflops("H100", 128), _WGMMA),
    Published(_FA3, "H100", 256, 756, "TFLOP/s", _FIGURE_5, _tflops("H100", 256), _WGMMA),
    Published(
        "siglip-kernel 0.1.1, forward + backward, B = 65,536", "GH200 (model: H100)", 768, 48.8,
        "ms", "pypi.org/project/siglip-kernel", _sigmoid_ms("H100", 65_536, 768),
    ),
    Published(
        "Liger-Kernel, fused scaled cross-entropy, forward, 131,072 classes", "H200", 4096, 657,
        "TFLOP/s", "github.com/linkedin/Liger-Kernel, pull request 1370",
        _wide_forward_tflops("H200", 16_384, 131_072, 4096),
    ),
)  # fmt: skip


def table() -> str:
    """Return measurements and predictions as Markdown."""
    lines = [
        "What others measured of kernels of the same shape, beside the model of ours: "
        "FlashAttention's forward pass beside the loop of our backward pass (two products and an "
        "exponential for each pair), siglip-kernel beside `sigmoid_loss` (it computes gradients "
        "with the loss: three products, ours four), cross-entropy beside the forward pass of wide "
        f"views. Where they differ by more than {100 * ERROR.value:.0f} %, the last column says "
        "why:\n",
        "| measured | GPU | D | measured | ours, predicted | | ours is as fast | source | why |",
        "|---|---|---:|---:|---:|---|---:|---|---|",
    ]
    for row in PUBLISHED:
        ours = f"{row.ours():.3g}"
        lines.append(
            f"| {row.what} | {row.on} | {row.dim} | {row.measured:g} | {ours} | {row.unit} | "
            f"{row.speed():.2f}x | {row.source} | {row.why} |"
        )
    return "\n".join(lines)
