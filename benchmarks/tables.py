"""Rows of results as Markdown tables; numbers or, read back from CSV, their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def times_table(timed: Sequence[Mapping[str, Any]]) -> str:
    """Return the times, a row per N, with how many times slower than simclr-ext each peer is."""
    names = list(dict.fromkeys(row["peer"] for row in timed))
    lines = [f"| N | {' | '.join(names)} |", "|---:" * (len(names) + 1) + "|"]
    for n in dict.fromkeys(row["n"] for row in timed):
        cells = []
        for row in (row for row in timed if row["n"] == n):
            ratio = "" if row["peer"] == "simclr-ext" else f" ({float(row['ratio']):.1f}x)"
            cells.append(f"{float(row['ms']):.3g} ms{ratio}")
        lines.append(f"| {int(n):,} | {' | '.join(cells)} |")
    return "\n".join(lines)
