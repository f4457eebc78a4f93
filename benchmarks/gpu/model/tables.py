"""The model's predictions as Markdown."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gpu.model import figures, published, wide
from benchmarks.gpu.model.figures import BUSY, EAGER_PASSES, ERROR, GPUS, Gpu
from benchmarks.gpu.model.fused import gaps, limits, milliseconds, step, tile_clocks
from benchmarks.gpu.model.instructions import SASS, SHOWN_DIMS, Row, kernels, of_file

SIZES = (256, 1024, 4096, 16_384, 65_536, 131_072)
STEPS = (256, 1024, 4096, 65_536)  # values of N whose kernels are shown
WIDE_SIZES, WIDE_DIMS = (1024, 4096, 16_384, 65_536), (256, 512, 2048)


def report(sass: Path = SASS) -> str:
    """Return all tables, from the CSV file of sass_report.py."""
    rows = of_file(sass)
    parts = [tiles(rows), times(rows), steps(rows), wide_times(rows)]
    return "\n\n".join([*parts, published.table(), figures.table()])


def tiles(rows: tuple[Row, ...]) -> str:
    """Return the clocks of a tile by unit, for bf16 and 3xTF32."""
    lines = [
        "Clocks of a multiprocessor per tile, by unit, and the share of the card's peak that the "
        "tensor cores have if the busiest unit never waits:\n",
        "| GPU | kernel | precision | D | tensor | EX2 | shared | L2 | FP32 | issue | of peak |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, gpu in _chips().items():
        for row in rows:
            shown = int(row["dim"]) in SHOWN_DIMS.get(row["precision"], ())
            if row["arch"] == gpu.arch and shown:
                units = limits(row, gpu)
                cells = " | ".join(f"{clocks:,.0f}" for clocks in units.values())
                share = units["tensor"] * gpu.mma_sync / tile_clocks(row, gpu)
                kernel = f"{row['kernel']} | {row['precision']} | {row['dim']}"
                lines.append(f"| {name} | {kernel} | {cells} | {share:.2f} |")
    return "\n".join(lines)


def times(rows: tuple[Row, ...]) -> str:
    """Return the predicted times over N for bf16 and D = 128."""
    lines = [
        f"Forward + backward, bf16, D = 128, in ms: predicted, give or take "
        f"{100 * ERROR.value:.0f} %; of that, the gaps between the kernels; if the busiest unit "
        f"never waits; and eager PyTorch's lower bound, {EAGER_PASSES.value:g} passes over the "
        "matrix:\n",
        "| GPU | N | predicted | of that gaps | never waiting | eager |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, gpu in GPUS.items():
        chosen = kernels(gpu.arch, "Bf16", 128, rows)
        for n in SIZES:
            predicted = milliseconds(chosen, gpu, n, BUSY.value)
            low, high = (predicted * (1 + sign * ERROR.value) for sign in (-1, 1))
            least = milliseconds(chosen, gpu, n, 1.0)
            matrix = (2 * n) ** 2 * 2
            eager = 1e3 * gpu.seconds(EAGER_PASSES.value * matrix, matrix)
            numbers = " | ".join(digits(value) for value in (gaps(chosen, gpu), least, eager))
            lines.append(f"| {name} | {n:,} | {digits(low)} to {digits(high)} | {numbers} |")
    return "\n".join(lines)


def steps(rows: tuple[Row, ...]) -> str:
    """Return the kernels of a step on an H100."""
    gpu = GPUS["H100"]
    lines = [
        "The kernels of a step on an H100, bf16, D = 128, with a fixed temperature: blocks, the "
        "share of the multiprocessors that have one, and us, without the gaps between kernels; and "
        "what a learned temperature takes:\n",
        "| N | kernel | blocks | multiprocessors | us |\n|---:|---|---:|---:|---:|",
    ]
    chosen = kernels(gpu.arch, "Bf16", 128, rows)
    for n in STEPS:
        launches = step(chosen, gpu, 2 * n, BUSY.value)
        for launch in launches:
            share = min(1.0, launch.blocks / gpu.multiprocessors)
            time = digits(1e6 * launch.clocks / gpu.clock)
            lines.append(f"| {n:,} | {launch.kernel} | {launch.blocks:,} | {share:.0%} | {time} |")
        fixed, learned = (
            1e6 * sum(launch.clocks for launch in found) / gpu.clock
            for found in (launches, step(chosen, gpu, 2 * n, BUSY.value, learned=True))
        )
        lines.append(f"| {n:,} | all | | | {digits(fixed)} |")
        lines.append(f"| {n:,} | the temperature's gradient | | | {digits(learned - fixed)} |")
    return "\n".join(lines)


def wide_times(rows: tuple[Row, ...]) -> str:
    """Return the predicted times of wide views over N and D, for bf16."""
    names = " | ".join(GPUS)
    lines = [
        "Forward + backward of [wide views](#wide-views), bf16, in ms; D = 256 as if it were wide, "
        "and with the kernels that it has:\n",
        f"| N | D | {names} |\n|---:|---|{'---:|' * len(GPUS)}",
    ]
    for n in WIDE_SIZES:
        fused = (_fused_256(gpu, n, rows) for gpu in GPUS.values())
        lines.append(f"| {n:,} | 256 | {' | '.join(fused)} |")
        for dim in WIDE_DIMS:
            passes = (wide.of_passes(gpu, wide.square(2 * n), 2 * n, dim) for gpu in GPUS.values())
            cells = " | ".join(digits(sum(times.values())) for times in passes)
            name = f"{dim}, as if wide" if dim == 256 else f"{dim:,}"
            lines.append(f"| {n:,} | {name} | {cells} |")
    return "\n".join(lines)


def _fused_256(gpu: Gpu, n: int, rows: tuple[Row, ...]) -> str:
    return digits(milliseconds(kernels(gpu.arch, "Bf16", 256, rows), gpu, n, BUSY.value))


def _chips() -> dict[str, Gpu]:
    """Return the GPUs that differ in a tile's clocks, under the names of all that are alike."""
    chips: dict[str, Gpu] = {}
    for name, gpu in GPUS.items():
        alike = next((other for other, chip in chips.items() if chip.arch == gpu.arch), None)
        key = name if alike is None else f"{alike}, {name}"
        chips[key] = chips.pop(alike) if alike is not None else gpu
    return chips


def digits(value: float) -> str:
    """Return a positive number with two significant digits."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
