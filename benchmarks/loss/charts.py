"""Charts of a run: time, memory, speed-up over the best peer and efficiency, over N."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.loss.analysis import by_peer, by_shape, efficiency, main_series, others, own
from benchmarks.loss.peers import OURS, TILED
from benchmarks.loss.rows import Row

# Other peers use the other colors in turn.
COLORS = {
    OURS: "#bd1f01",
    TILED: "#e76300",
    "eager": "#3f90da",
    "torch.compile": "#ffa90e",
    "lightly": "#717581",
    "chunked": "#832db6",
}
OTHER_COLORS = ("#a96b59", "#94a4a2", "#b9ac70", "#92dadd", "#5b8c5a", "#d16ba5", "#3b3b98")
MARKERS = "os^Dv<>phX*P"


def at_sizes(rows: Sequence[Row], names: Mapping[str, str], sizes: Sequence[int]) -> Figure:
    """Return bar charts of the time of some implementations at some N, the fastest first."""
    figure = Figure(figsize=(9, 2.2), layout="constrained")
    timed = [row for row in main_series(rows) if row.peer in names and row.ms is not None]
    for axis, n in zip(figure.subplots(1, len(sizes)), sizes, strict=True):
        bars = sorted((row.ms or 0.0, row.peer) for row in timed if row.n == n)
        times, peers = zip(*bars, strict=True)
        colors = [COLORS[OURS] if peer == OURS else COLORS["lightly"] for peer in peers]
        drawn = axis.barh([names[peer] for peer in peers], times, color=colors)
        axis.bar_label(
            drawn,
            [f"{time:,.0f} ms" if time >= 100 else f"{time:.3g} ms" for time in times],
            padding=3,
            fontsize=8,
        )
        axis.set(title=f"N = {n:,}", xlim=(0, 1.45 * times[-1]), xticks=[])
        axis.invert_yaxis()
        axis.tick_params(axis="y", length=0, labelsize=8)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def over_sizes(rows: Sequence[Row], names: Collection[str]) -> Figure:
    """Return time and memory of some implementations over N."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    series = [row for row in main_series(rows) if row.peer in names]
    time(left, series)
    memory(right, series)
    left.legend(frameon=False, fontsize=8)
    return figure


def report(rows: Sequence[Row]) -> Figure:
    """Return the report's charts: time, memory, speed-up, efficiency."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    series = main_series(rows)
    for axis, draw in zip(axes.flat, (time, memory, speed_up, rates), strict=True):
        draw(axis, series)
    lines, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside right center", frameon=False)
    return figure


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element, to embed in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def time(axis: Axes, series: Sequence[Row]) -> None:
    """Draw the time of forward + backward of each implementation, and the lower bound."""
    for index, (name, rows) in enumerate(by_peer(series).items()):
        timed = [(row.n, row.ms) for row in rows if row.ms is not None]
        _line(axis, index, name, timed)
    floors = {row.n: row.floor_ms for row in series if row.floor_ms is not None}
    axis.loglog(*zip(*sorted(floors.items()), strict=True), "k:", label="the machine's limit")
    _label(axis, "Time, forward + backward", "ms", series)


def memory(axis: Axes, series: Sequence[Row]) -> None:
    """Draw the peak of resident memory of each implementation."""
    measured = [row for row in series if row.rss_mib]
    for index, (name, rows) in enumerate(by_peer(series).items()):
        _line(axis, index, name, [(row.n, row.rss_mib) for row in rows if row.rss_mib])
    _label(axis, "Peak memory beyond inputs and gradients", "MiB", measured)


def speed_up(axis: Axes, series: Sequence[Row]) -> None:
    """Draw how many times longer the best peer takes."""
    best = []
    for shape in by_shape(series):
        ours, peers = own(shape), others(shape)
        if ours is not None and peers:
            best.append((ours.n, (peers[0].ms or 0) / (ours.ms or 1)))
    axis.semilogx(*zip(*best, strict=True), "o-", color=COLORS[OURS])
    axis.axhline(1, color="k", linewidth=0.8)
    axis.set_ylim(bottom=0)
    _label(axis, f"Time of the best peer / {OURS}", "", series)


def rates(axis: Axes, series: Sequence[Row]) -> None:
    """Draw the share of the matrix product's rate that each implementation reaches."""
    for index, (name, rows) in enumerate(by_peer(series).items()):
        _line(axis, index, name, [(r.n, efficiency(r)) for r in rows if r.ms is not None])
    axis.set_yscale("linear")
    axis.set_ylim(bottom=0)
    _label(axis, "Efficiency: share of the rate of torch.mm", "", series)


def _line(axis: Axes, index: int, name: str, points: Sequence[tuple[int, float]]) -> None:
    if not points:
        return
    color = COLORS.get(name, OTHER_COLORS[index % len(OTHER_COLORS)])
    marker = MARKERS[index % len(MARKERS)]
    width = 2.0 if name == OURS else 1.0
    style = {"color": color, "marker": marker, "linewidth": width, "markersize": 4}
    axis.loglog(*zip(*points, strict=True), label=name, **style)


def _label(axis: Axes, title: str, unit: str, series: Sequence[Row]) -> None:
    sizes = sorted({row.n for row in series})
    axis.set(title=title, xlabel="N, pairs in the batch", ylabel=unit)
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [f"{n:,}" for n in sizes], rotation=45, fontsize=7)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
