"""Writes the report of a run: one Markdown file, and one self-contained HTML page.

python -m benchmarks.loss.report [--run NAME] [--results results/speed.csv] [--out build/bench]
"""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.loss import charts, rows
from benchmarks.loss.rows import Row
from benchmarks.loss.tables import Table, all_tables

TITLE = "NT-Xent: time and memory of its implementations"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 13px }
td, th { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
svg { max-width: 100%; height: auto }
"""


def main(argv: list[str] | None = None) -> int:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="its name; default: the last one")
    parser.add_argument("--results", type=Path, default=rows.SPEED)
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder")
    args = parser.parse_args(argv)
    try:
        run, measured = rows.of_run(args.run, args.results)
    except rows.NoSuchRun as error:
        parser.error(str(error))
    args.out.mkdir(parents=True, exist_ok=True)
    tables = all_tables(run, measured)
    markdown, page = args.out / "report.md", args.out / "report.html"
    markdown.write_text(as_markdown(tables), encoding="utf-8")
    page.write_text(as_html(run, measured, tables), encoding="utf-8")
    print(f"{markdown}\n{page}")
    return 0


def as_markdown(tables: Sequence[Table]) -> str:
    """Return the report in Markdown."""
    return "\n\n".join([f"# {TITLE}", *(table.markdown() for table in tables)]) + "\n"


def as_html(run: Mapping[str, str], measured: Sequence[Row], tables: Sequence[Table]) -> str:
    """Return the report as a page: charts, then tables."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        f"<style>{STYLE}</style></head><body><h1>{TITLE}</h1>"
        f"<p>Run of {html.escape(run['run'])}, commit {html.escape(run['commit'])}.</p>"
        f"{charts.svg(charts.report(measured))}{''.join(table.html() for table in tables)}"
        "</body></html>\n"
    )


if __name__ == "__main__":
    sys.exit(main())
