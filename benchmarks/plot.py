"""Draws the README's chart, and prints its table, from the committed results.

python benchmarks/plot.py
"""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure
from tables import times_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "cpu.csv"
CHART = HERE.parent / "docs" / "benchmark.png"
COLOURS = {
    "simclr-ext": "#bd1f01",
    "eager": "#3f90da",
    "torch.compile": "#ffa90e",
    "lightly": "#717581",
}
MARKERS = {"simclr-ext": "o", "eager": "s", "torch.compile": "^", "lightly": "D"}


def main() -> None:
    """Read the results, write the chart, print the table."""
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    timed = [row for row in rows if row["what"] == "forward + backward"]
    draw(timed, [row for row in rows if row["what"] == "extra memory"])
    print(times_table(timed))


def draw(timed: list[dict[str, str]], memory: list[dict[str, str]]) -> None:
    """Write the chart: time over N, and peak memory at N = 4,096."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for name, colour in COLOURS.items():
        own = [row for row in timed if row["peer"] == name]
        sizes, times = [int(r["n"]) for r in own], [float(r["ms"]) for r in own]
        left.loglog(sizes, times, color=colour, marker=MARKERS[name], label=name)
    left.set(xlabel="N, pairs in the batch", ylabel="forward + backward, ms", title="Time")
    left.set_xticks([int(r["n"]) for r in timed if r["peer"] == "eager"], minor=False)
    left.minorticks_off()
    left.xaxis.set_major_formatter("{x:,.0f}")
    left.legend(frameon=False)
    left.grid(alpha=0.3)

    bars = [row for row in memory if row["n"] == "4096"]
    values = [float(row["mib"]) for row in bars]
    names = [row["peer"] for row in bars]
    drawn = right.barh(names, values, color=[COLOURS[name] for name in names])
    right.bar_label(drawn, fmt="{:,.0f}", padding=3)
    right.invert_yaxis()
    right.set(xlabel="peak beyond inputs and gradients, MiB", title="Memory at N = 4,096")
    right.set_xlim(0, max(values) * 1.2)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(CHART, dpi=130)


if __name__ == "__main__":
    main()
