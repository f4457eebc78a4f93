"""The steps, most important first, and the sizes of each."""

from __future__ import annotations

from benchmarks.gpu.job import Step
from benchmarks.gpu.sizes import Table

_HERE = "benchmarks.gpu"
_FUSED = ("bfloat16", "float32", "float16", "float32 (tf32)")  # the kernels' four precisions
# Errors of a kernel are reported by the call that launched it, and cuBLAS is deterministic.
_BLOCKING = {"CUDA_LAUNCH_BLOCKING": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

_DIMS = (1, 7, 31, 32, 33, 64, 65, 100, 128, 129, 200, 256, 257, 512, 2048)
_CASES = Table(
    dims=_DIMS,
    sizes=(1, 2, 33, 205, 1000),
    temperatures=(0.005, 0.01, 0.0149, 0.0151, 0.1, 0.5, 10.0),
)
_LARGE = Table(dims=(), sizes=(), temperatures=(), large=(24_000, 64))  # (2N)^2 > 2^31
_TILED = Table(dims=(33, 128, 300), sizes=(1, 33, 1000), temperatures=(0.01, 0.5))

_TIMED = (
    *(("bfloat16", n, 128) for n in (4096, 16_384, 65_536, 8192, 32_768, 1024, 256, 2048, 512)),
    *(("bfloat16", n, d) for d in (64, 256) for n in (4096, 16_384, 65_536)),
    *(("bfloat16", n, d) for d in (512, 2048) for n in (4096, 16_384)),
    *(("float32", n, 128) for n in (4096, 16_384, 65_536)),
)
_BESIDE = (
    *(("bfloat16", n, 128) for n in (4096, 16_384, 65_536, 1024, 256)),
    *(("bfloat16", n, d) for d in (64, 256) for n in (4096, 16_384)),
    *(("float32", n, 128) for n in (4096, 16_384)),
)
_TIMED_LATER = (
    *(("float32", n, d) for d in (64, 256) for n in (4096, 16_384)),
    *(("float32", n, 128) for n in (256, 1024)),
    *((name, n, 128) for name in ("float16", "float32 (tf32)") for n in (4096, 16_384)),
    *(("float32", n, 512) for n in (4096, 16_384)),
    *(("bfloat16", n, 512) for n in (256, 1024)),
    *(("bfloat16", n, d) for d in (64, 256) for n in (256, 1024)),
)
_PROFILED = (
    *(("bfloat16", n, 128) for n in (256, 4096, 16_384)),
    *(("bfloat16", 16_384, d) for d in (64, 256, 512)),
    ("float32", 16_384, 128),
)
_COUNTED = (
    *(("bfloat16", 16_384, d, 0.5) for d in (128, 64, 256)),
    ("float32", 8192, 128, 0.5),
    ("bfloat16", 16_384, 128, 0.01),
)
_SANITIZED = tuple(
    (name, 33, d, t) for name in _FUSED for d, t in ((7, 0.5), (129, 0.01), (64, 0.5))
)

_SIGMOID = {
    "sizes": tuple((n, k, d) for d in (33, 128, 256) for n, k in ((1, 1), (33, 150), (1000, 1000))),
    "scalars": ((10.0, -10.0), (100.0, -20.0), (1.0, 3.0)),
}
_RECTANGLE = {"dims": (33, 128, 256), "sizes": (1, 33, 1000), "temperatures": (0.01, 0.5)}
_BY_PRODUCTS = {"dims": (33, 128, 256), "sizes": (2, 33, 1000), "temperatures": (0.01, 0.5)}

_SMALL = (("bfloat16", 40, 16), ("float32", 40, 16))


def _smoke(name: str, dims: tuple[int, ...], sizes: tuple[int, ...]) -> Step:
    options = {"precisions": (name,), "dims": dims, "sizes": sizes, "temperatures": (0.5, 0.01)}
    return Step(f"smoke {name}", f"{_HERE}.staged", 45, options, _BLOCKING)


def _cases(step: str, limit: float, table: Table, precisions: tuple[str, ...]) -> Step:
    options = {"table": table, "backend": "fused", "precisions": precisions}
    return Step(step, f"{_HERE}.check", limit, options)


FULL = (
    Step("build", f"{_HERE}.build", 300, needs_kernels=False),
    Step("environment", f"{_HERE}.environment", 60, needs_kernels=False),
    *(_smoke(name, (24, 64, 100, 200, 512), (33, 150)) for name in _FUSED),
    Step(
        "rates",
        f"{_HERE}.rates",
        60,
        {"side": 8192, "depth": 128, "copied": 2**30, "rounds": 9},
        needs_kernels=False,
    ),
    Step("timings", f"{_HERE}.own", 90, {"points": _TIMED, "rounds": 9, "profiled": _PROFILED}),
    Step(
        "beside",
        f"{_HERE}.own",
        90,
        {"points": _BESIDE, "rounds": 9, "beside": ("eager", "triton")},
    ),
    _cases("cases", 90, _CASES, _FUSED),
    Step("sigmoid", f"{_HERE}.sigmoid", 45, {"precisions": _FUSED, **_SIGMOID}),
    Step("rectangle", f"{_HERE}.rectangle", 45, {"precisions": _FUSED, **_RECTANGLE}),
    Step("by-products", f"{_HERE}.by_products", 45, {"precisions": _FUSED, **_BY_PRODUCTS}),
    Step(
        "repeats",
        f"{_HERE}.repeats",
        40,
        {"points": (("bfloat16", 8192, 128), ("float32", 4096, 64)), "times": 200},
    ),
    Step("probes", f"{_HERE}.probes", 90, needs_kernels=False, needs_gpu=True),
    Step("counters", f"{_HERE}.counters", 120, {"points": _COUNTED, "seconds": 45}, needs_gpu=True),
    Step(
        "peers",
        f"{_HERE}.contestants",
        100,
        {
            "names": ("torch.compile",),
            "precision": "bfloat16",
            "sizes": (4096, 1024, 16_384, 256),
            "d": 128,
            "rounds": 9,
            "limit": 60.0,
        },
    ),
    Step("graphs", f"{_HERE}.graphs", 90, {"n": 1024, "d": 128}, needs_gpu=True),
    Step(
        "sanitizer",
        f"{_HERE}.sanitizer",
        200,
        {"points": _SANITIZED, "tools_": ("memcheck", "racecheck", "synccheck"), "seconds": 45},
        needs_gpu=True,
    ),
    Step("demo", f"{_HERE}.demo", 120, {"seconds": 115}),
    _cases("large cases", 90, _LARGE, _FUSED),
    Step(
        "tiled cases",
        f"{_HERE}.check",
        90,
        {
            "table": _TILED,
            "backend": "tiled",
            "precisions": ("bfloat16", "float32", "float16", "float32 (tf32)", "float64"),
        },
        needs_kernels=False,
    ),
    Step("more timings", f"{_HERE}.own", 90, {"points": _TIMED_LATER, "rounds": 9}),
    Step(
        "more peers",
        f"{_HERE}.contestants",
        240,
        {
            "names": (),
            "precision": "bfloat16",
            "sizes": (4096, 16_384),
            "d": 128,
            "rounds": 9,
            "limit": 60.0,
        },
    ),
)

# The same steps on the CPU, in a minute or two; used by the tests.
SMALL = (
    Step("build", f"{_HERE}.build", 300, needs_kernels=False),
    Step("environment", f"{_HERE}.environment", 60, needs_kernels=False),
    _smoke("float32", (24,), (33,)),
    Step(
        "rates",
        f"{_HERE}.rates",
        60,
        {"side": 256, "depth": 32, "copied": 2**20, "rounds": 3},
        needs_kernels=False,
    ),
    Step("timings", f"{_HERE}.own", 60, {"points": _SMALL, "rounds": 3}),
    Step(
        "beside",
        f"{_HERE}.own",
        60,
        {"points": _SMALL, "rounds": 3, "beside": ("eager", "triton")},
    ),
    _cases("cases", 60, Table((33,), (2, 3), (0.01, 0.5)), ("bfloat16", "float32", "float16")),
    Step(
        "sigmoid",
        f"{_HERE}.sigmoid",
        60,
        {"precisions": ("float32",), "sizes": ((33, 40, 24),), "scalars": ((10.0, -10.0),)},
    ),
    Step(
        "rectangle",
        f"{_HERE}.rectangle",
        60,
        {"precisions": ("float32",), "dims": (24,), "sizes": (33,), "temperatures": (0.5,)},
    ),
    Step(
        "by-products",
        f"{_HERE}.by_products",
        60,
        {"precisions": ("float32",), "dims": (24,), "sizes": (33,), "temperatures": (0.5,)},
    ),
    Step("repeats", f"{_HERE}.repeats", 40, {"points": (("float32", 60, 16),), "times": 3}),
    Step("probes", f"{_HERE}.probes", 60, needs_kernels=False, needs_gpu=True),
    Step(
        "counters", f"{_HERE}.counters", 60, {"points": _COUNTED[:1], "seconds": 40}, needs_gpu=True
    ),
    Step(
        "peers",
        f"{_HERE}.contestants",
        60,
        {
            "names": ("eager", "Liger"),
            "precision": "float32",
            "sizes": (40,),
            "d": 16,
            "rounds": 3,
            "limit": 60.0,
        },
    ),
    Step("graphs", f"{_HERE}.graphs", 60, {"n": 40, "d": 16}, needs_gpu=True),
    Step(
        "sanitizer",
        f"{_HERE}.sanitizer",
        60,
        {"points": _SANITIZED[:1], "tools_": ("memcheck",), "seconds": 40},
        needs_gpu=True,
    ),
)

PLANS = {"full": FULL, "small": SMALL}
