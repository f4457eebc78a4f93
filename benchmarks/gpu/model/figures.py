"""Every figure that the time model of the CUDA kernels assumes, with its unit and its source."""

from __future__ import annotations

from dataclasses import dataclass, fields


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
ERROR = Figure("relative error of a prediction", 0.3, "", "guess: nothing published is like it")
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
_COUNTED = (
    "machine code of an earlier version on sm_80, bf16, D = 128: 546 and 165 for the 64 elements "
    "of a lane"
)
RARE = {
    "forward": Figure(
        "forward, a tile at an edge or with positives, for each element of a lane", 8.5,
        "instructions", _COUNTED,
    ),
    "backward": Figure(
        "backward, a tile with positives, for each element of a lane", 2.6, "instructions", _COUNTED
    ),
}  # fmt: skip
CUBLAS = Figure(
    "share of the peak that cuBLAS reaches in the products of wide views",
    0.6,
    "",
    "guess: between siglip-kernel's 41 % with all around the products (below), and the 80 and 87 % "
    "that the best shapes reach on an H100 and an A100 (mamf-finder, "
    "github.com/stas00/ml-engineering)",
)
SHORT = Figure(
    "start and end of a kernel of wide views, beside its work", 1.5, "us",
    "guess: the short kernels of narrow views take 0.6 to 2 us",
)  # fmt: skip
_THROUGHPUT = "CUDA C++ Programming Guide, throughput of instructions, of 8.0 to 9.0"
SHARED = Figure("shared memory of a multiprocessor", 128, "bytes/clock", _THROUGHPUT)
EXPONENTIALS = Figure("exponentials of a multiprocessor", 16, "1/clock", _THROUGHPUT)
ISSUED = Figure("instructions that a multiprocessor issues", 4, "1/clock", _THROUGHPUT)
EAGER_PASSES = Figure(
    "passes of eager PyTorch over the M x M matrix, forward and backward",
    14,
    "",
    "reads and writes of its operators, at least",
)
FIGURES = (
    *(SHARED, EXPONENTIALS, ISSUED, BUSY, ERROR, GAP, REDUCTION, FUNCTION, *RARE.values()),
    *(CUBLAS, SHORT, EAGER_PASSES),
)


@dataclass(frozen=True)
class Gpu:
    """Rates of a GPU; `SOURCES` has their units and sources."""

    arch: str
    multiprocessors: int
    clock: float
    tensor: float
    mma_sync: float
    float_lanes: int
    cache_size: float
    cache: float
    cache_latency: float
    memory: float
    memory_latency: float

    @property
    def peak(self) -> float:
        """FLOP/s of the tensor cores with half types."""
        return self.multiprocessors * self.clock * 2 * 2048 / self.tensor

    def seconds(self, traffic: float, working_set: float) -> float:
        """Return how long it takes to move so many bytes of a set that may fit into the cache."""
        return traffic / (self.cache if working_set <= self.cache_size else self.memory)


GPUS = {
    "A100": Gpu("sm_80", 108, 1.41e9, 2, 1.0, 64, 28e6, 5.4e12, 262, 1.555e12, 466),
    "H100": Gpu("sm_90a", 132, 1.83e9, 1, 0.64, 128, 44e6, 9.7e12, 263, 3.35e12, 479),
    "H200": Gpu("sm_90a", 132, 1.83e9, 1, 0.64, 128, 44e6, 9.7e12, 263, 4.8e12, 479),
    "L40S": Gpu("sm_89", 142, 2.49e9, 4, 1.0, 128, 94e6, 5.2e12, 277, 0.864e12, 632),
}
_SPECIFIED = "NVIDIA's whitepapers of A100 and H100 (SXM), and data sheets of H200 (SXM) and L40S"
_CACHE = (
    "measured: github.com/te42kyfo/gpu-benches, of an A100, an H200 (an H100 is the same chip) and "
    "an L40 (an L40S is)"
)
_LATENCY = "measured: arXiv:2402.13499, A100 and H100; github.com/te42kyfo/gpu-benches, L40"
SOURCES = {
    "multiprocessors": ("multiprocessors", "", _SPECIFIED),
    "clock": ("clock, at which the peak is specified", "Hz", _SPECIFIED),
    "tensor": ("HMMA of 2048 half or 1024 TF32 products", "clocks", _SPECIFIED),
    "mma_sync": (
        "share of that rate that `mma.sync` can reach; the rest takes `wgmma`", "",
        "measured: 63 to 65 % on an H100, all of it on A100 and Ada (arXiv:2402.13499)",
    ),
    "float_lanes": ("FP32 lanes of a multiprocessor", "", _SPECIFIED),
    "cache_size": ("what stays in the L2 cache", "bytes", _CACHE),
    "cache": ("L2 cache", "bytes/s", _CACHE),
    "cache_latency": ("load from the L2 cache", "clocks", _LATENCY),
    "memory": ("DRAM", "bytes/s", _SPECIFIED),
    "memory_latency": ("load from DRAM", "clocks", _LATENCY),
}  # fmt: skip


def table() -> str:
    """Return all figures as Markdown."""
    names = " | ".join(GPUS)
    lines = [f"| of a GPU | {names} | unit | source |", f"|---|{'---:|' * len(GPUS)}---|---|"]
    for field in fields(Gpu):
        if field.name in SOURCES:
            meaning, unit, source = SOURCES[field.name]
            values = " | ".join(f"{getattr(gpu, field.name):,.5g}" for gpu in GPUS.values())
            lines.append(f"| {meaning} | {values} | {unit} | {source} |")
    lines += ["", "| of all | value | unit | source |", "|---|---:|---|---|"]
    lines += [f"| {f.meaning} | {f.value:g} | {f.unit} | {f.source} |" for f in FIGURES]
    return "\n".join(lines)
