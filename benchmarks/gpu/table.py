"""Writes the page for the docs from a file of results: measurements beside predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.gpu import sentences
from benchmarks.gpu.job import Row
from benchmarks.gpu.model import prediction
from benchmarks.gpu.results import BAD, last_of_each

_HEAD = """# Measured on a GPU

Written by `python benchmarks/gpu_check.py --table FILE`. Times are medians of rounds in which all
that stands in a line took its turn, quartiles in brackets; predictions those of
`benchmarks/gpu/model`.
"""
# The metrics of Nsight Compute that say what a kernel waits for.
_METRICS = {
    "gpu__time_duration.sum": "time",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "SM, %",
    "l1tex__throughput.avg.pct_of_peak_sustained_active": "L1 and shared, %",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": "L2, %",
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": "DRAM, %",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy, %",
    "sm__inst_issued.avg.per_cycle_active": "issued per clock",
    "launch__registers_per_thread": "registers",
}


def page(rows: list[Row]) -> str:
    """Return the page as Markdown."""
    jobs = last_of_each(rows)
    sections: list[Callable[[], Iterable[str]]] = [
        lambda: _environment(jobs),
        lambda: _steps(rows, jobs),
        lambda: _faults(jobs),
        lambda: _timings(jobs),
        lambda: _rates(jobs),
        lambda: _kernels(jobs),
        lambda: _peers(jobs),
        lambda: _counters(jobs),
        lambda: _others(jobs),
    ]
    parts = ["\n".join(lines) for section in sections if (lines := list(section()))]
    return "\n\n".join([_HEAD.rstrip(), *parts]) + "\n"


def _table(names: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> list[str]:
    """Return a table; all columns but the first `words` are numbers."""
    lines = [f"| {' | '.join(names)} |", "|---" * words + "|---:" * (len(names) - words) + "|"]
    return lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]


def _environment(jobs: list[Row]) -> Iterable[str]:
    for row in jobs:
        if row["step"] == "environment":
            hidden = ("step", "job", "status", "seconds")
            yield from ["## The machine", ""]
            yield from _table(
                ("", "value"), [(k, v) for k, v in row.items() if k not in hidden], words=2
            )
        elif row["step"] == "build" and "build_seconds" in row:
            worst = max((k["spilled_bytes"] for k in row["kernels"]), default=0)
            yield (
                f"Built in {row['build_seconds']} s on {row['processors']} processors for "
                f"{', '.join(row['architectures'])}; {len(row['kernels'])} kernels, the most that "
                f"one spills: {worst} bytes.\n"
            )


def _steps(rows: list[Row], jobs: list[Row]) -> Iterable[str]:
    ends = {row["step"]: row for row in rows if row.get("event") == "end"}
    names = dict.fromkeys(row["step"] for row in rows)
    yield from ["## What ran", ""]
    kinds = ("ok", "failed", "lost", "out of memory", "skipped")
    lines = []
    for name in names:
        counts = [sum(j["step"] == name and j["status"] == kind for j in jobs) for kind in kinds]
        end = ends.get(name, {"status": "cut", "seconds": ""})
        reason = f": {end['reason']}" if "reason" in end else ""
        lines.append((name, f"{end['status']}{reason}", *counts, end["seconds"]))
    yield from _table(("step", "", *kinds, "s"), lines, words=2)


def _faults(jobs: list[Row]) -> Iterable[str]:
    bad = [row for row in jobs if row["status"] in BAD]
    if bad:
        yield from ["## What failed", ""]
    for row in bad:
        yield f"- {row['step']}, {row['job']}: {row['status']}"
        yield from (f"    - {line.partition(chr(10))[0]}" for line in sentences.of_job(row))
    skipped = [row for row in jobs if row["status"] == "skipped"]
    if skipped:
        yield from ["", "Not run:", ""] if bad else ["## Not run", ""]
    yield from (f"- {row['step']}, {row['job']}: {row.get('reason', '')}" for row in skipped)


def _timings(jobs: list[Row]) -> Iterable[str]:
    found: dict[tuple[str, int, int], Row] = {}
    for row in jobs:
        if "timings" in row and "peer" not in row:
            point = found.setdefault((row["precision"], row["d"], row["n"]), {"timings": {}})
            # The operators' own step comes first; its times are used.
            point["timings"] = row["timings"] | point["timings"]
            point |= {k: v for k, v in row.items() if k in ("tflops", "peak_mib")}
    if not found:
        return
    card = next((str(row.get("GPU", "")) for row in jobs if row["step"] == "environment"), "")
    wrong = {
        _precision_of(row["job"])
        for row in jobs
        if row["status"] in BAD and row["step"].startswith(("smoke", "cases"))
    }
    yield from ["## Time", "", "ms; the fused operators alone, and whole training steps.", ""]
    names = [
        *("precision", "N", "D", "forward", "predicted", "TFLOP/s"),
        *("backward", "predicted", "TFLOP/s", "both", "Triton", "eager", "MiB"),
    ]
    lines = []
    for (precision, d, n), row in sorted(found.items()):
        expected = prediction.milliseconds(card, precision, n, d)
        flag = " (checks failed)" if precision in wrong else ""
        cells = [f"{precision}{flag}", f"{n:,}", str(d)]
        for name in ("forward", "backward"):
            cells += [_ms(row["timings"].get(name)), _number(expected.get(name))]
            cells += [_number(row.get("tflops", {}).get(name))]
        cells += [_ms(row["timings"].get(name)) for name in ("both", "triton", "eager")]
        lines.append((*cells, _number(row.get("peak_mib"))))
    yield from _table(names, lines)
    yield from _other_methods(list(found.values()))


def _precision_of(job: str) -> str:
    """Return the precision in the key of a case, as in "fused float32 (tf32) N=1 D=7 T=0.5"."""
    return job.partition(" N=")[0].partition(" ")[2]


def _other_methods(rows: list[Row]) -> Iterable[str]:
    """Say which times were not measured with graphs."""
    methods: dict[str, set[str]] = {}
    for row in rows:
        for name, timing in row["timings"].items():
            if timing.get("method", "graph") != "graph":
                methods.setdefault(timing["method"], set()).add(name)
    for method, names in sorted(methods.items()):
        yield f"\nNot all replays of graphs, but {method}: {', '.join(sorted(names))}."


def _ms(timing: Row | None) -> str:
    if timing is None:
        return ""
    if "ms" not in timing:
        return str(timing["status"])
    return f"{timing['ms']:.3g} [{timing['low']:.3g}, {timing['high']:.3g}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _rates(jobs: list[Row]) -> Iterable[str]:
    rows = [row for row in jobs if row["step"] == "rates" and "ms" in row]
    if not rows:
        return
    yield from ["## The machine's rates", ""]
    yield from _table(
        ("", "ms", "TFLOP/s", "GB/s"),
        [(r["job"], _ms(r), _number(r.get("tflops")), _number(r.get("gb_per_s"))) for r in rows],
    )


def _kernels(jobs: list[Row]) -> Iterable[str]:
    rows = [row for row in jobs if row["job"].endswith(" kernels") and "kernels" in row]
    if rows:
        yield from ["## Time of each kernel", ""]
        lines = [
            (row["job"].removesuffix(" kernels"), f"`{k['kernel']}`", k["launches"], k["us"])
            for row in rows
            for k in row["kernels"]
        ]
        yield from _table(("", "kernel", "launches", "us"), lines, words=2)


def _peers(jobs: list[Row]) -> Iterable[str]:
    rows = [row for row in jobs if "peer" in row and "timings" in row]
    if not rows:
        return
    yield from ["## Peers", "", "Forward + backward, ms, in the same rounds.", ""]
    lines = []
    for row in rows:
        other, ours = (row["timings"].get(name, {}) for name in (row["peer"], "fused"))
        ratio = f"{other['ms'] / ours['ms']:.2f}" if "ms" in other and "ms" in ours else ""
        name = row["peer"] + (f" ({row['problem']})" if row["problem"] != "NT-Xent" else "")
        lines.append(
            (name, row["precision"], f"{row['n']:,}", row["d"], _ms(other), _ms(ours), ratio)
        )
    yield from _table(("peer", "precision", "N", "D", "peer", "fused", "ratio"), lines, words=2)


def _counters(jobs: list[Row]) -> Iterable[str]:
    rows = [row for row in jobs if row["step"] == "counters" and "kernels" in row]
    if not rows:
        return
    yield from ["## Counters", "", "All of them are in the files of `ncu` beside the results.", ""]
    lines = []
    for row in rows:
        for kernel in row["kernels"]:
            found = {name.partition(" [")[0]: value for name, value in kernel["metrics"].items()}
            cells = [found.get(name, "") for name in _METRICS]
            name = kernel["kernel"].partition("<")[0].split("::")[-1]
            lines.append((row["job"], name, *cells))
    yield from _table(("", "kernel", *_METRICS.values()), lines, words=2)


def _others(jobs: list[Row]) -> Iterable[str]:
    """Yield the results of the other steps, line by line."""
    names = ("probes", "repeats", "graphs", "sanitizer", "demo")
    rows = [row for row in jobs if row["step"] in names and row["status"] != "skipped"]
    if rows:
        yield from ["## Probes and tools", ""]
    for row in rows:
        hidden = ("step", "job", "seconds", "traceback", "log", "faults")
        found = ", ".join(f"{k} {v}" for k, v in row.items() if k not in hidden and v != [])
        yield f"- {row['step']}, {row['job']}: {found.removeprefix('status ')[:600]}"
