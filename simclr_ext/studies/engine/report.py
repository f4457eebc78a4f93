"""A study's results: its rows as <name>.csv, its picture as PNG and SVG, and report.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.engine.figures import house_style, save
from simclr_ext.studies.engine.study import Context, Findings, Ordering, Row, Study
from simclr_ext.studies.engine.sweep import Outcome
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.probes.tables import markdown_text

_SCALES = {
    "tiny": "This is the tiny scale: it only tests that the study runs.",
    "cpu": "This is the scale of a CPU: a small encoder, small images and few epochs.",
    "paper": "This is the paper's recipe.",
}


def write_results(
    folder: Path,
    study: Study,
    config: StudyConfig,
    context: Context,
    found: Sequence[Outcome],
) -> Findings:
    """Write the table, the picture and the report of the cells that are finished.

    Args:
        folder: The study's folder.
        study: The study.
        config: Its options.
        context: The data and the recipe.
        found: Outcomes of the cells.

    Returns:
        The findings; empty if all cells failed.
    """
    rows = [row for outcome in found for row in outcome.rows]
    findings = Findings("No cell is finished.")
    if rows:
        _write_csv(folder / f"{config.study}.csv", rows)
        with house_style():
            save(study.draw(rows), folder / config.study)
        findings = study.findings(rows)
    text = _report(study, config, context, found, findings)
    write_text(folder / "report.md", text)
    return findings


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, file.getvalue())


def _report(
    study: Study,
    config: StudyConfig,
    context: Context,
    found: Sequence[Outcome],
    findings: Findings,
) -> str:
    sections = [
        f"# {study.title}: {markdown_text(context.data.name)}",
        study.question,
        f"Source: SimCLR (arXiv 2002.05709), {study.source}.",
        f"![{study.title}]({config.study}.png)",
        findings.table,
        _spread(found) if study.repeated else "",
        findings.note,
        orderings(findings.orderings),
        f"## How it was measured\n\n{_SCALES[config.scale]} {_recipe(context)}",
        _machine_time(config, found),
        _failed(found),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _spread(found: Sequence[Outcome]) -> str:
    if len({outcome.cell.seed for outcome in found if outcome.rows}) > 1:
        return "± is the standard deviation over seeds."
    return "One seed: a small difference may be noise."


def orderings(found: Sequence[Ordering]) -> str:
    """Return a list of the paper's findings, and whether they hold here."""
    if not found:
        return ""
    verdicts = {True: "holds here", False: "does not hold here", None: "inconclusive here"}
    lines = [f"- {o.claim}: **{verdicts[o.holds]}** ({o.numbers})." for o in found]
    return "\n".join(["## Does the paper's ordering hold?", "", *lines])


def _recipe(context: Context) -> str:
    data, config = context.data, context.config
    labeled = data.train.label_count
    some = "" if labeled == len(data.train) else f" ({labeled:,} with labels)"
    return (
        f"{len(data.train):,} training{some} and {len(data.test):,} test images of "
        f"{markdown_text(data.name)}, seen at {config.side} x {config.side}; encoder "
        f"{config.model.encoder!r}, batch {config.batch_size}, {config.epochs} epochs, "
        f"T = {config.temperature:g}, {config.optim.name.upper()}, {config.precision}, unless the "
        "study varies it. The whole recipe: study.yaml."
    )


def _machine_time(config: StudyConfig, found: Sequence[Outcome]) -> str:
    seconds = [outcome.seconds for outcome in found if outcome.error is None]
    if not seconds:
        return ""
    total = sum(seconds)
    time = f"{total / 60:.1f} minutes" if total >= 60 else f"{total:.1f} seconds"
    return (
        f"Machine time: {time} for {len(seconds)} cells on {config.device}, "
        f"{total / len(seconds):.1f} s each on average."
    )


def _failed(found: Sequence[Outcome]) -> str:
    failed = [outcome for outcome in found if outcome.error is not None]
    if not failed:
        return ""
    lines = [f"- `{outcome.cell.id}`: {markdown_text(reason(outcome))}" for outcome in failed]
    return "\n".join(["## Cells that failed", "", *lines])


def reason(outcome: Outcome) -> str:
    """Return in one line why a cell failed."""
    return (outcome.error or "").partition("\n")[0]
