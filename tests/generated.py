"""Text in the docs that is generated from data: `make generated` writes it, `make lint` compares.

    python -m tests.generated [--write]

A block of a page begins with `<!-- generated: NAME -->` and ends with `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, ROOT, scale_model
from benchmarks.gpu import sass_report
from benchmarks.gpu.model.tables import report as prediction
from benchmarks.loss import family, processes, rows, shared, swap
from benchmarks.loss.tables import floors, times
from benchmarks.trainer import data
from simclr_ext.studies.config import STUDIES
from simclr_ext.studies.engine.study import load_study
from simclr_ext.trainer.probes.tables import markdown_table
from tests.mutants import cuda, found

END = "<!-- end -->"


def marker(name: str) -> str:
    """Return the line that a block begins with."""
    return f"<!-- generated: {name} -->"


def replaced(text: str, name: str, block: str) -> str:
    """Return a page's text with the block of this name replaced.

    Raises:
        ValueError: If the page lacks the markers, or has them twice.
    """
    before, begin, rest = text.partition(marker(name))
    _, end, after = rest.partition(END)
    if not begin or not end or marker(name) in after:
        raise ValueError(f"a page must have {marker(name)} and then {END}, once")
    return f"{before}{begin}\n\n{block.strip()}\n\n{end}{after}"


def benchmark() -> str:
    """Return the times of the last full run."""
    _, measured = rows.of_run(rows.last_of("full"))
    return times(rows.with_those_measured_alone(measured)).grid()


def other_machines() -> str:
    """Return the times of the last quick run on each machine but that of the full run."""
    parts = []
    for name in rows.last_on_other_machines("quick"):
        run, measured = rows.of_run(name)
        machine = f"{run['machine']}, {run['isa']}, {run['cores']} cores"
        parts += [f"{machine}, torch {run['torch']}, {run['run']}:", times(measured).grid()]
        parts += ["Distance to the limit:", floors(measured).grid()]
    return "\n\n".join(parts)


def demo_results() -> dict[str, Any]:
    """Return the measured time and accuracies of `simclr-ext demo`."""
    results: dict[str, Any] = json.loads((RESULTS / "demo.json").read_text())
    return results


def demo_time() -> str:
    """Return the demo's time in words."""
    minutes, seconds = divmod(demo_results()["seconds"], 60)
    return f"{minutes} min {seconds} s on {demo_results()['machine']}"


def demo_table() -> str:
    """Return the demo's accuracies as the command prints them."""
    results = demo_results()
    return markdown_table(results["columns"], [[n, *v] for n, v in results["accuracies"].items()])


def commands() -> str:
    """Return the README's two commands."""
    return "\n".join(
        [
            "```console",
            "$ make demo    # sets up, then trains SimCLR on real images, offline",
            "$ make test    # sets up, then passes the tests",
            "```",
            "",
            f"The training takes {demo_time()}, the tests about 16 minutes with all set-up.",
        ]
    )


def study(name: str) -> str:
    """Return the head of a study's section in the gallery."""
    this = load_study(name)
    return (
        f"## {this.title}\n\n"
        f"`simclr-ext study {name}`; the paper's {this.source}. {this.question}\n\n"
        f"![{this.title}](gallery/{name}.png)"
    )


BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "commands": commands,
        "demo": demo_table,
    },
    "docs/benchmarks.md": {
        "times": benchmark,
        "other machines": other_machines,
        "family": family.table,
        "processes": processes.table,
        "shared": shared.table,
    },
    "docs/cuda.md": {
        "faults": lambda: found.table("cuda", cuda.FAULTS, found.read()),
        "sass": lambda: sass_report.table(sass_report.shown()),
        "prediction": prediction,
    },
    "docs/gallery.md": {f"study {name}": (lambda name=name: study(name)) for name in STUDIES},
    "docs/images.md": {
        "input": lambda: data.table(data.read_rows(RESULTS / "data.csv")),
    },
    "docs/processes.md": {
        "scale": scale_model.table,
        "calibration": scale_model.calibration,
    },
    "docs/swap.md": {"swap": lambda: swap.table(swap.read())},
    "docs/trainer.md": {
        "demo": lambda: f"A ResNet from scratch in {demo_time()}:\n\n{demo_table()}"
    },
}


def pages() -> dict[Path, str]:
    """Return every page with its blocks up to date.

    Raises:
        ValueError: If a page lacks a block's markers, or has markers of an unknown block.
    """
    made = {}
    for page, blocks in BLOCKS.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        if text.count(marker("").partition(" -->")[0].rstrip()) != len(blocks):
            raise ValueError(f"{page} must have the markers of {', '.join(blocks)}, and no others")
        for name, block in blocks.items():
            text = replaced(text, name, block())
        made[ROOT / page] = text
    return made


def main(argv: list[str] | None = None) -> int:
    """Compare the pages with their data, or write them; return how many differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the pages")
    write = parser.parse_args(argv).write
    differ = [(page, text) for page, text in pages().items() if page.read_text("utf-8") != text]
    for page, text in differ:
        if write:
            page.write_text(text, encoding="utf-8")
        else:
            print(f"{page.relative_to(ROOT)} is out of date: make generated writes it")
    return 0 if write else len(differ)


if __name__ == "__main__":
    sys.exit(main())
