"""Tables of a run, for both forms of the report and the README."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.loss.analysis import (
    BOTH,
    by_peer,
    by_shape,
    efficiency,
    main_series,
    memory_growth,
    others,
    own,
    slower_than_a_peer,
    time_growth,
)
from benchmarks.loss.peers import OURS
from benchmarks.loss.rows import Row

BUDGETS = (1, 4, 16)  # GiB
# The project's goals, with as many threads as processors: peer, N, times faster.
GOALS = (
    ("eager", 4096, 6.0),
    ("torch.compile", 4096, 3.5),
    ("lightly", 4096, 9.0),
    ("eager", 8192, 8.0),
)
GOAL_EFFICIENCY = (4096, 0.90)


@dataclass(frozen=True)
class Table:
    """A table and its title; cells are text."""

    title: str
    header: Sequence[str]
    body: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """Return it in Markdown, with its title as a heading."""
        lines = [f"## {self.title}", ""] + ([self.note, ""] if self.note else [])
        return "\n".join([*lines, self.grid()])

    def grid(self) -> str:
        """Return it in Markdown, without the title."""
        lines = [f"| {' | '.join(self.header)} |", "|---" + "|---:" * (len(self.header) - 1) + "|"]
        return "\n".join(lines + [f"| {' | '.join(row)} |" for row in self.body])

    def html(self) -> str:
        """Return it in HTML."""
        cells = [("th", self.header), *(("td", row) for row in self.body)]
        rows = [
            "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in cells
        ]
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return f"<h2>{html.escape(self.title)}</h2>{note}<table>{''.join(rows)}</table>"


def all_tables(run: Mapping[str, str], rows: Sequence[Row]) -> list[Table]:
    """Return every table of the report of a run."""
    return [
        environment(run, rows),
        times(rows),
        floors(rows),
        goals(rows),
        growths(rows),
        largest(rows),
        faster_peers(rows),
        every_shape(rows),
    ]


def environment(run: Mapping[str, str], rows: Sequence[Row]) -> Table:
    """Return the environment of the run, and its machine's rates."""
    body = [[name, value.replace("; ", ";  ")] for name, value in run.items() if value]
    series = main_series(rows)
    for name, column in (
        ("mm, GFLOP/s", "mm_gflops"),
        ("the faster of mm and oneDNN, GFLOP/s", "product_gflops"),
        ("exp, 1e9 per second", "exp_gps"),
        ("memory, GB/s", "memory_gbps"),
        ("processor time taken by others", "foreign"),
    ):
        values = [getattr(row, column) for row in series if getattr(row, column) is not None]
        if values:
            body.append([name, f"{min(values):.3g} to {max(values):.3g}"])
    return Table("Environment", ("", ""), body)


def times(rows: Sequence[Row], names: Sequence[str] | None = None) -> Table:
    """Return the times of the main series, with how many times longer than ours they are."""
    series = [row for row in main_series(rows) if names is None or row.peer in names]
    columns = list(by_peer(series))
    body = []
    for shape in by_shape(series):
        cells, ours = {row.peer: row for row in shape}, own(shape)
        body.append([f"{shape[0].n:,}", *(_time(cells.get(name), ours) for name in columns)])
    return Table(
        "Time",
        ("N", *columns),
        body,
        "Forward + backward, ms; in brackets, how many times longer than "
        f"{OURS}. D = 128, float32, T = 0.5.",
    )


def _time(row: Row | None, ours: Row | None) -> str:
    if row is None:
        return ""
    if row.ms is None:
        return row.status.partition(":")[0]
    ratio = f" ({row.ms / ours.ms:.1f}x)" if ours and ours.ms and row is not ours else ""
    return milliseconds(row.ms) + ratio


def milliseconds(ms: float) -> str:
    """Return a time with three digits, or whole milliseconds from a second on."""
    return f"{ms:.3g}" if ms < 1000 else f"{ms:,.0f}"


def floors(rows: Sequence[Row]) -> Table:
    """Return each implementation's time as a multiple of the machine's limit, and efficiency."""
    series = main_series(rows)
    columns = list(by_peer(series))
    body = []
    for shape in by_shape(series):
        cells, ours = {row.peer: row for row in shape}, own(shape)
        limit = next((row.floor_ms for row in shape if row.floor_ms), 0.0)
        share = f"{efficiency(ours):.2f}" if ours else ""
        body.append(
            [f"{shape[0].n:,}", f"{limit:.3g}", share]
            + [_multiple(cells.get(name)) for name in columns]
        )
    return Table(
        "Distance to the machine's limit",
        ("N", "limit, ms", f"efficiency of {OURS}", *columns),
        body,
        "Times as multiples of the limit: the longest of the loss's FLOP, exponentials and "
        "traffic, each at the machine's rate in the same rounds. Efficiency: the FLOP at the rate "
        "of torch.mm over the time; above 1 where that is not the machine's fastest product.",
    )


def _multiple(row: Row | None) -> str:
    return f"{row.ms / row.floor_ms:.2f}" if row and row.ms and row.floor_ms else ""


def goals(rows: Sequence[Row]) -> Table:
    """Return the project's goals, and the run's results."""
    cells = {(row.peer, row.n): row for row in main_series(rows)}
    body = []
    for peer, n, goal in GOALS:
        ours, theirs = cells.get((OURS, n)), cells.get((peer, n))
        found = theirs.ms / ours.ms if ours and theirs and ours.ms and theirs.ms else None
        body.append([f"times faster than {peer}, N = {n:,}", f"{goal:g}", _goal(found, goal)])
    n, goal = GOAL_EFFICIENCY
    ours = cells.get((OURS, n))
    found = efficiency(ours) if ours and ours.ms else None
    body.append([f"efficiency, N = {n:,}", f"{goal:g}", _goal(found, goal)])
    return Table("Goals", ("", "goal", "measured"), body)


def _goal(found: float | None, goal: float) -> str:
    if not found:
        return "not measured"
    return f"{found:.2f}" + ("" if found >= goal else ", missed")


def growths(rows: Sequence[Row]) -> Table:
    """Return the exponents of time and memory over N."""
    body = []
    for name, own_rows in by_peer(main_series(rows)).items():
        fits = (time_growth(own_rows), memory_growth(own_rows))
        body.append([name, *(f"{fit.exponent:.2f}" if fit else "" for fit in fits)])
    return Table(
        "Growth",
        ("", "time", "memory"),
        body,
        "Exponents of N, fitted to the three largest sizes that were measured.",
    )


def largest(rows: Sequence[Row]) -> Table:
    """Return the largest N of each implementation within budgets of memory."""
    body = []
    for name, own_rows in by_peer(main_series(rows)).items():
        fit = memory_growth(own_rows)
        if fit is not None:
            sizes = [fit.size(gib * 1024) for gib in BUDGETS]
            body.append([name, *(_size(n, fit.largest) for n in sizes)])
    return Table(
        "The largest N",
        ("", *(f"{gib} GiB" for gib in BUDGETS)),
        body,
        "Whose peak memory beyond inputs and gradients fits, by the growth above, linear at least; "
        "~: beyond the sizes that were measured.",
    )


def _size(n: int, measured: int) -> str:
    return f"{n:,}" if n <= measured else f"~{float(f'{n:.2g}'):,.0f}"


def faster_peers(rows: Sequence[Row]) -> Table:
    """Return the shapes at which a peer was faster than this package."""
    body = [
        [shape_text(ours), best.peer, f"{ours.ms:.3g}", f"{best.ms:.3g}", _overlap(ours, best)]
        for ours, best in slower_than_a_peer(rows)
    ]
    shapes = len([shape for shape in by_shape(rows) if own(shape) and others(shape)])
    return Table(
        "Where a peer is faster",
        ("", "peer", f"{OURS}, ms", "peer, ms", "spreads"),
        body,
        f"{len(body)} of {shapes} shapes and passes.",
    )


def _overlap(ours: Row, best: Row) -> str:
    return "overlap" if (best.ms_high or 0) >= (ours.ms_low or 0) else "apart"


def every_shape(rows: Sequence[Row]) -> Table:
    """Return every shape with the best peer."""
    body = []
    for shape in by_shape(rows):
        ours, best = own(shape), next(iter(others(shape)), None)
        if ours is None or ours.ms is None:
            continue
        peer = [best.peer, f"{best.ms / ours.ms:.2f}x"] if best and best.ms else ["", ""]
        spread = f"{ours.ms:.3g} [{ours.ms_low:.3g}, {ours.ms_high:.3g}]"
        rates = ["", ""]
        if ours.dtype == "float32":  # the machine's rates are in float32
            rates = [_multiple(ours), f"{efficiency(ours):.2f}"]
        body.append([shape_text(ours), spread, *rates, *peer])
    return Table(
        "Every shape",
        ("", f"{OURS}, ms", "/ limit", "efficiency", "best peer", "its time"),
        body,
    )


def shape_text(row: Row) -> str:
    """Return a measurement's shape and pass in words, without default values."""
    parts = [f"N = {row.n:,}", f"D = {row.d}"]
    parts += [row.dtype] if row.dtype != "float32" else []
    parts += [f"T = {row.temperature:g}"] if row.temperature != 0.5 else []
    parts += [f"{row.threads} thread{'s' * (row.threads > 1)}"]
    parts += [row.what] if row.what != BOTH else []
    return ", ".join(parts)
