"""Maps of h and of z = g(h): which one separates the classes? (section 4.2, figure B.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.pretraining import h_and_z, probe, train_model
from simclr_ext.studies.material.summary import cell_of, ordering, over_seeds
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.tables import markdown_table
from simclr_ext.trainer.probes.tsne import class_legend, draw_map, tsne_map

_NAMES = {"h": "h", "z": "z = g(h)"}
_PROBES = {"linear": "linear probe", "knn": "k-NN"}


def _variants(scale: ScaleName) -> list[Variant]:
    return [{}]


def _measure(cell: Cell, context: Context) -> list[Row]:
    """Return a row of accuracies for h and for z, and their maps, a row per image."""
    data, config = context.data, context.config
    model = train_model(config, data)
    rows: list[Row] = []
    for name, network in h_and_z(model).items():
        rows.append({"representation": name, **probe(network, data, config.side)})
        points, shown = tsne_map(encode(network, data.test.images, config.side), cell.seed)
        for (x, y), label in zip(points.tolist(), data.test.labels[shown].tolist(), strict=True):
            title = data.class_names[label]
            rows.append({"representation": name, "x": x, "y": y, "label": label, "class": title})
    return rows


def _draw(rows: Sequence[Row]) -> Figure:
    seed = rows[0]["seed"]
    accuracies = over_seeds(rows, ["representation", "seed"], "knn")
    figure = Figure(figsize=(13, 6))
    panels = figure.subplots(1, 2)
    for axes, (name, title) in zip(panels, _NAMES.items(), strict=True):
        own = [row for row in rows if row["seed"] == seed and row["representation"] == name]
        own = [row for row in own if "x" in row]
        points = np.array([[row["x"], row["y"]] for row in own], np.float32)
        labels = np.array([row["label"] for row in own], np.int64)
        names = {int(row["label"]): str(row["class"]) for row in own}
        listed = [names.get(label, "") for label in range(max(names) + 1)]
        drawn = draw_map(axes, points, labels, listed)
        knn = 100 * accuracies[name, seed].mean
        axes.set_title(f"{title}, {len(own):,} test images; k-NN {knn:.1f} %")
    class_legend(figure, drawn)
    return figure


def _findings(rows: Sequence[Row]) -> Findings:
    found = {probe: over_seeds(rows, ["representation"], probe) for probe in _PROBES}
    table = [
        [title, *(cell_of(found[probe].get((name,))) for probe in _PROBES)]
        for name, title in _NAMES.items()
    ]
    head = ["representation", *(f"{title}, %" for title in _PROBES.values())]
    orderings = (
        ordering(
            f"h separates the classes better than g(h): {title}",
            found[probe].get(("h",)),
            found[probe].get(("z",)),
        )
        for probe, title in _PROBES.items()
    )
    return Findings(
        markdown_table(head, table),
        tuple(orderings),
        "The map shows the test images of the first seed. The paper shows a map, and no numbers; "
        "accuracies measure the separation of the classes without the map's distortions.",
    )


STUDY = Study(
    title="Maps of h and g(h)",
    question="Are classes better separated in h, before the projection head, than in g(h), "
    "after it?",
    source="section 4.2, figure B.4",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
