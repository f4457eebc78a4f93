"""Batch size and epochs (section 5.2, figure 9; the learning rate's scaling is appendix B.1's)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from matplotlib.figure import Figure

from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.figures import draw_line
from simclr_ext.studies.engine.study import Cell, Context, Findings, Ordering, Row, Study, Variant
from simclr_ext.studies.material.pretraining import probe, train_model
from simclr_ext.studies.material.summary import cell_of, matched, ordering, over_seeds
from simclr_ext.trainer.probes.scores import Accuracy
from simclr_ext.trainer.probes.tables import markdown_table, percent

_BATCHES: dict[ScaleName, tuple[int, ...]] = {
    "tiny": (32, 64),
    "cpu": (64, 128, 256, 512),
    "paper": (256, 512, 1024, 2048, 4096, 8192),
}
_EPOCHS: dict[ScaleName, tuple[int, ...]] = {
    "tiny": (1, 2),
    "cpu": (5, 10, 30),
    "paper": tuple(range(100, 1001, 100)),
}


def _variants(scale: ScaleName) -> list[Variant]:
    return [
        {"epochs": epochs, "batch": batch} for epochs in _EPOCHS[scale] for batch in _BATCHES[scale]
    ]


def _measure(cell: Cell, context: Context) -> list[Row]:
    # Each batch size needs its own rate: 0.075 sqrt(N), which suits small batches and short runs.
    optim = dataclasses.replace(context.config.optim, learning_rate=0.075, scaling="sqrt")
    config = dataclasses.replace(
        context.config,
        epochs=int(cell.variant["epochs"]),
        batch_size=int(cell.variant["batch"]),
        optim=optim,
    )
    model = train_model(config, context.data)
    return [probe(model.encoder, context.data, config.side)]


def _draw(rows: Sequence[Row]) -> Figure:
    accuracies = over_seeds(rows, ["epochs", "batch"], "linear")
    figure = Figure(figsize=(7.5, 5))
    axes = figure.add_subplot()
    for index, epochs in enumerate(_values(rows, "epochs")):
        points = {float(batch): a for (own, batch), a in accuracies.items() if own == epochs}
        draw_line(axes, points, f"{epochs}", index)
    batches = _values(rows, "batch")
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set(xlabel="batch size N, images", ylabel="linear probe of h, test accuracy, %")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", title="epochs")
    return figure


def _findings(rows: Sequence[Row]) -> Findings:
    accuracies = over_seeds(rows, ["epochs", "batch"], "linear")
    all_epochs, batches = _values(rows, "epochs"), _values(rows, "batch")
    table = [
        [f"{epochs} epochs", *(cell_of(accuracies.get((epochs, batch))) for batch in batches)]
        for epochs in all_epochs
    ]
    few, many, small, large = all_epochs[0], all_epochs[-1], batches[0], batches[-1]
    trained = {epochs: [row for row in rows if row["epochs"] == epochs] for epochs in (few, many)}
    shortly = {
        batch: [row for row in trained[few] if row["batch"] == batch] for batch in (small, large)
    }
    return Findings(
        markdown_table(["linear probe, %", *(f"N = {batch}" for batch in batches)], table),
        (
            ordering(
                f"With few epochs ({few}), a large batch ({large}) is better than a small one "
                f"({small})",
                *matched(shortly[large], shortly[small], "linear"),
            ),
            _shrinks(
                f"The lead of the large batch shrinks with more epochs ({many})",
                _lead(rows, few, large, small),
                _lead(rows, many, large, small),
            ),
            ordering(
                f"{many} epochs are better than {few}",
                *matched(trained[many], trained[few], "linear", ["batch"]),
            ),
        ),
        "The learning rate is 0.075 times the square root of the batch size for every cell. The "
        "paper gives its numbers only as bars of figure 9.",
    )


def _values(rows: Sequence[Row], column: str) -> list[int]:
    return sorted({int(row[column]) for row in rows})


def _lead(rows: Sequence[Row], epochs: int, large: int, small: int) -> Accuracy | None:
    """Return the lead of a batch size over another one, by seed."""
    found = over_seeds(rows, ["epochs", "batch", "seed"], "linear")
    pairs = (
        (found.get((epochs, large, seed)), found.get((epochs, small, seed)))
        for seed in _values(rows, "seed")
    )
    draws = [first.mean - second.mean for first, second in pairs if first and second]
    return Accuracy(tuple(draws)) if draws else None


def _shrinks(claim: str, lead: Accuracy | None, later: Accuracy | None) -> Ordering:
    """Return whether a lead shrinks; without a lead, this is inconclusive."""
    if lead is not None and lead.mean <= 0:
        return Ordering(claim, None, f"there is no lead: {percent(lead)}")
    return ordering(claim, lead, later)


STUDY = Study(
    title="Batch size and epochs",
    question="Are large batches, which have more negatives, worth it, and does that depend on how "
    "long the training is?",
    source="section 5.2, figure 9",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
