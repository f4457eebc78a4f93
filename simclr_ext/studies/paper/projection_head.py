"""Projection head none, linear or nonlinear, and the dimension of z (section 4.2, figure 8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.figures import GRAY, draw_line
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.pretraining import probe, train_model
from simclr_ext.studies.material.summary import cell_of, matched, ordering, over_seeds
from simclr_ext.trainer.probes.tables import markdown_table

_DIMS: dict[ScaleName, tuple[int, ...]] = {
    "tiny": (8, 32),
    "cpu": (32, 128, 512),
    "paper": (32, 64, 128, 256, 512, 1024, 2048),
}
_NAMES = {"mlp": "nonlinear head", "linear": "linear head", "none": "no head"}


def _variants(scale: ScaleName) -> list[Variant]:
    heads: list[Variant] = [
        {"head": head, "dim": dim} for head in ("mlp", "linear") for dim in _DIMS[scale]
    ]
    return [*heads, {"head": "none", "dim": 0}]  # the loss is computed from h


def _measure(cell: Cell, context: Context) -> list[Row]:
    head: dict[str, Any] = {"projection": cell.variant["head"]}
    if cell.variant["dim"]:
        head["projection_dim"] = cell.variant["dim"]
    model_config = dataclasses.replace(context.config.model, **head)
    config = dataclasses.replace(context.config, model=model_config)
    model = train_model(config, context.data)
    return [probe(model.encoder, context.data, config.side)]


def _draw(rows: Sequence[Row]) -> Figure:
    accuracies = over_seeds(rows, ["head", "dim"], "linear")
    figure = Figure(figsize=(7, 4.5))
    axes = figure.add_subplot()
    for index, head in enumerate(("mlp", "linear")):
        points = {float(dim): a for (name, dim), a in accuracies.items() if name == head}
        draw_line(axes, points, _NAMES[head], index)
    none = accuracies.get(("none", 0))
    if none is not None:
        axes.axhline(100 * none.mean, color=GRAY, ls="--", label=_NAMES["none"])
        low, high = 100 * (none.mean - none.std), 100 * (none.mean + none.std)
        axes.axhspan(low, high, color=GRAY, alpha=0.2, lw=0)
    dims = sorted({int(dim) for _, dim in accuracies if dim})
    axes.set_xscale("log", base=2)
    axes.set_xticks(dims, [str(dim) for dim in dims])
    axes.set(xlabel="dimension of z = g(h)", ylabel="linear probe of h, test accuracy, %")
    axes.legend()
    return figure


def _findings(rows: Sequence[Row]) -> Findings:
    linear, knn = (over_seeds(rows, ["head", "dim"], value) for value in ("linear", "knn"))
    table = [
        [_NAMES[str(head)], str(dim or "h's"), cell_of(linear[head, dim]), cell_of(knn[head, dim])]
        for head, dim in linear
    ]
    mlp, flat, none = ([row for row in rows if row["head"] == head] for head in _NAMES)
    return Findings(
        markdown_table(["head", "dimension of z", "linear probe, %", "k-NN, %"], table),
        (
            ordering(
                "A nonlinear head is better than a linear one (by 3 % in the paper)",
                *matched(mlp, flat, "linear", ["dim"]),
            ),
            ordering(
                "A nonlinear head is better than none (by more than 10 % in the paper)",
                *matched(mlp, none, "linear"),
            ),
            ordering("A linear head is better than none", *matched(flat, none, "linear")),
        ),
        "The orderings compare means over all dimensions of z. The paper's text gives differences; "
        "its accuracies are given only as bars of figure 8.",
    )


STUDY = Study(
    title="Projection head",
    question="Does a head between the representation h and the loss help, must it be nonlinear, "
    "and does the dimension of its output matter?",
    source="section 4.2, figure 8",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
