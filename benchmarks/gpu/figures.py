"""Every figure that the time model of the CUDA kernels assumes, with its unit and its source."""

from __future__ import annotations

from dataclasses import dataclass, fields

_NOTHING = "guess: nothing published is like it"


@dataclass(frozen=True)
class Figure:
    """A number that does not depend on the GPU."""

    meaning: str
    value: float
    unit: str
    source: str


BUSY = Figure(
    "of the time, the busiest unit is busy",
    0.65,
    "",
    "FlashAttention-2, whose loop is similar: 324 to 370 of the 630 TFLOP/s that `mma.sync` can "
    "reach on an H100 (arXiv:2407.08608), up to 73 % of an A100's peak (arXiv:2307.08691)",
)
ERROR = Figure("relative error of a prediction", 0.3, "", _NOTHING)
GAP = Figure(
    "from the end of a kernel to the start of the next, in a CUDA graph",
    0.5,
    "us",
    "NVIDIA, Getting Started with CUDA Graphs: 3.4 us for each kernel of 2.9 us, on a V100; 3.8 us "
    "without a graph",
)
REDUCTION = Figure(
    "a sum over the lanes of a warp: five times a shuffle and an addition",
    140,
    "clocks",
    "24 and 4 clocks, of Volta (arXiv:1804.06826)",
)
FUNCTION = Figure(
    "a logarithm or exponential in double, beside square roots and divisions", 200, "clocks",
    "guess: 25 dependent multiplications of 8 clocks",
)  # fmt: skip
_COUNTED = "machine code of sm_80, bf16, D = 128: 546 and 165 for the 64 elements of a lane"
RARE = {
    "forward": Figure(
        "forward, a tile at an edge or with positives, for each element of a lane", 8.5,
        "instructions", _COUNTED,
    ),
    "backward": Figure(
        "backward, a tile with positives, for each element of a lane", 2.6, "instructions", _COUNTED
    ),
}  # fmt: skip
EAGER_PASSES = Figure(
    "passes of eager PyTorch over the M x M matrix, forward and backward",
    14,
    "",
    "reads and writes of its operators, at least",
)
FIGURES = (BUSY, ERROR, GAP, REDUCTION, FUNCTION, *RARE.values(), EAGER_PASSES)


@dataclass(frozen=True)
class Gpu:
    """Rates of a GPU; `SOURCES` has their units and sources."""

    arch: str
    multiprocessors: int
    clock: float
    tensor: float
    mma_sync: float
    float_lanes: int
    cache: float
    cache_latency: float
    memory: float
    memory_latency: float


GPUS = {
    "A100": Gpu("sm_80", 108, 1.41e9, 2, 1.0, 64, 7.2e12, 262, 1.555e12, 466),
    "H100": Gpu("sm_90a", 132, 1.755e9, 1, 0.64, 128, 5.5e12, 263, 3.35e12, 479),
}
_WHITEPAPER = "NVIDIA's whitepapers of A100 and H100 (SXM)"
_LATENCIES = "measured: arXiv:2402.13499"
SOURCES = {
    "arch": ("architecture whose machine code is counted", "", ""),
    "multiprocessors": ("multiprocessors", "", _WHITEPAPER),
    "clock": ("clock", "Hz", _WHITEPAPER),
    "tensor": ("HMMA of 2048 half or 1024 TF32 products", "clocks", _WHITEPAPER),
    "mma_sync": (
        "share of that rate that `mma.sync` can reach; the rest takes `wgmma`", "",
        "measured: 63 to 65 % on an H100 (arXiv:2402.13499)",
    ),
    "float_lanes": ("FP32 lanes of a multiprocessor", "", _WHITEPAPER),
    "cache": (
        "L2 cache", "bytes/s",
        "A100: whitepaper, 5,120 bytes per clock; H100: measured, chipsandcheese.com, July 2023",
    ),
    "cache_latency": ("load from the L2 cache", "clocks", _LATENCIES),
    "memory": ("DRAM", "bytes/s", _WHITEPAPER),
    "memory_latency": ("load from DRAM", "clocks", _LATENCIES),
}  # fmt: skip


def table() -> str:
    """Return all figures as Markdown."""
    lines = ["| assumed | value | unit | source |", "|---|---:|---|---|"]
    for field in fields(Gpu):
        if field.name != "arch":
            meaning, unit, source = SOURCES[field.name]
            values = ", ".join(f"{getattr(gpu, field.name):,.5g}" for gpu in GPUS.values())
            lines.append(f"| {' and '.join(GPUS)}: {meaning} | {values} | {unit} | {source} |")
    lines += [f"| {f.meaning} | {f.value:g} | {f.unit} | {f.source} |" for f in FIGURES]
    return "\n".join(lines)
