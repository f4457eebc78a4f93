"""Which transformations, alone and in pairs, make a contrastive task worth solving (figure 5)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.one_branch import OneBranchSource, targeted_transforms
from simclr_ext.studies.material.pretraining import probe, train_model
from simclr_ext.studies.material.summary import Pair, cell_of, matched, ordering, over_seeds
from simclr_ext.studies.material.transforms import Transform, compose
from simclr_ext.trainer.probes.tables import markdown_table

_NAMES: dict[ScaleName, tuple[str, ...]] = {
    "tiny": ("crop", "color", "rotate"),
    "cpu": ("crop", "cutout", "color", "sobel", "rotate"),
    "paper": ("crop", "cutout", "color", "sobel", "noise", "blur", "rotate"),
}


def _variants(scale: ScaleName) -> list[Variant]:
    names = _NAMES[scale]
    return [{"first": first, "second": second} for first in names for second in names]


def _measure(cell: Cell, context: Context) -> list[Row]:
    config, data = context.config, context.data
    transform = _targeted(cell.variant, targeted_transforms(config.augment, config.side))
    source = OneBranchSource(data.train.images[:], config, transform)
    model = train_model(config, data, source)
    return [probe(model.encoder, data, config.side)]


def _targeted(variant: Variant, transforms: Mapping[str, Transform]) -> Transform:
    """Return the composition of two transformations; the diagonal has each one alone."""
    names = dict.fromkeys(str(variant[place]) for place in ("first", "second"))
    return compose([transforms[name] for name in names])


def _draw(rows: Sequence[Row]) -> Figure:
    names = _names(rows)
    accuracies = over_seeds(rows, ["first", "second"], "linear")
    matrix = np.full((len(names), len(names) + 1), np.nan)  # the last column: means of the rows
    for (first, second), accuracy in accuracies.items():
        matrix[names.index(str(first)), names.index(str(second))] = 100 * accuracy.mean
    for line in matrix:
        measured = line[~np.isnan(line)]
        line[-1] = measured.mean() if len(measured) else np.nan
    figure = Figure(figsize=(1.0 * len(names) + 3.2, 0.75 * len(names) + 1.6))
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="cividis", aspect="auto")
    middle = (np.nanmin(matrix) + np.nanmax(matrix)) / 2
    for (row, column), value in np.ndenumerate(matrix):
        if not np.isnan(value):  # a failed cell
            color = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=color)
    axes.axvline(len(names) - 0.5, color="white", lw=4)
    axes.set_xticks(range(len(names) + 1), [*names, "mean"])
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="second transformation", ylabel="first transformation")
    figure.colorbar(image, label="linear probe of h, test accuracy, %")
    return figure


def _findings(rows: Sequence[Row]) -> Findings:
    names = _names(rows)
    accuracies = over_seeds(rows, ["first", "second"], "linear")
    table = [
        [first, *(cell_of(accuracies.get((first, second))) for second in names)] for first in names
    ]
    pairs = {frozenset(pair): _pair(rows, *pair) for pair in itertools.combinations(names, 2)}
    best = pairs.pop(frozenset(("crop", "color")), [])
    singles = [[row for row in rows if row["first"] == row["second"] == name] for name in names]
    return Findings(
        markdown_table(["first, then second, %", *names], table),
        (
            ordering(
                "Crop and color are the best pair (55.8 % in the paper)",
                *_strongest(best, pairs.values(), ["order"]),
            ),
            ordering(
                "No single transformation suffices: crop and color are better than any",
                *_strongest(best, singles),
            ),
        ),
        "One branch is transformed, the other one is the crop that both start from, so that "
        "accuracies are below those of the usual training. On the diagonal are single "
        "transformations; the orderings use the mean over both orders of a pair.",
    )


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row[place]) for row in rows for place in ("first", "second")))


def _pair(rows: Sequence[Row], one: str, other: str) -> list[Row]:
    """Return the rows of two transformations, in both orders."""
    both = [row for row in rows if {row["first"], row["second"]} == {one, other}]
    return [{**row, "order": int(row["first"] == one)} for row in both]


def _strongest(
    best: Sequence[Row], others: Iterable[Sequence[Row]], keys: Sequence[str] = ()
) -> Pair:
    """Return the accuracies of a group, and of the best of the other groups."""

    def lead(pair: Pair) -> float:
        one, other = pair
        return one.mean - other.mean if one and other else math.inf

    pairs = [matched(best, rows, "linear", keys) for rows in others]
    return min(pairs, key=lead, default=(None, None))


STUDY = Study(
    title="Composition of augmentations",
    question="Which transformations, alone and in pairs, make a contrastive task whose solution is "
    "a good representation?",
    source="section 3.1, figure 5",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
