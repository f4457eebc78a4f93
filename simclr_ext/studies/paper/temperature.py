"""l2 norm and temperature of NT-Xent (section 5.1, table 5)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simclr_ext import NTXentLoss
from simclr_ext.diagnostics import contrastive_metrics
from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.figures import draw_line
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.pretraining import probe, train_model
from simclr_ext.studies.material.summary import (
    Groups,
    cell_of,
    highest,
    number,
    ordering,
    over_seeds,
)
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.simclr import SimCLR
from simclr_ext.trainer.probes.scores import Accuracy
from simclr_ext.trainer.probes.tables import markdown_table
from simclr_ext.trainer.seeds import Stream, derive_seed
from simclr_ext.trainer.training.gradient import halves
from simclr_ext.trainer.views.batches import Source, build_source

_BATCHES = 10  # for the measurement of entropy and contrastive accuracy
_NORMALIZED, _PLAIN = "cosine", "dot product"


class _Paper(NamedTuple):
    """A line of table 5; accuracies in per cent, the entropy in nats."""

    entropy: float
    contrastive: float
    top1: float


_PAPER = {
    (_NORMALIZED, 0.05): _Paper(1.0, 90.5, 59.7),
    (_NORMALIZED, 0.1): _Paper(4.5, 87.8, 64.4),
    (_NORMALIZED, 0.5): _Paper(8.2, 68.2, 60.7),
    (_NORMALIZED, 1.0): _Paper(8.3, 59.1, 58.0),
    (_PLAIN, 10.0): _Paper(0.5, 91.7, 57.2),
    (_PLAIN, 100.0): _Paper(0.5, 92.1, 57.0),
}


def _variants(scale: ScaleName) -> list[Variant]:
    grid = list(_PAPER)[1::2] if scale == "tiny" else list(_PAPER)
    return [{"similarity": similarity, "temperature": t} for similarity, t in grid]


def _measure(cell: Cell, context: Context) -> list[Row]:
    temperature = float(cell.variant["temperature"])
    normalize = cell.variant["similarity"] == _NORMALIZED
    config = dataclasses.replace(context.config, temperature=temperature)
    source = build_source(context.data, config)
    loss = NTXentLoss(temperature, normalize=normalize)
    model = train_model(config, context.data, source, loss)
    return [
        {
            **probe(model.encoder, context.data, config.side),
            **_contrastive(model, source, config, normalize),
        }
    ]


@torch.no_grad()
def _contrastive(model: SimCLR, source: Source, config: ResolvedConfig, normalize: bool) -> Row:
    """Return contrastive accuracy and entropy on new views, in train mode and in float32.

    This changes the running statistics of batch norm, so evaluate the model first.
    """
    model.train()
    found = []
    for index, batch in enumerate(itertools.islice(source.batches(config.epochs), _BATCHES)):
        step = config.epochs * source.steps + index
        views = source.views(batch, derive_seed(config.seed, Stream.VIEWS, step))
        z = halves(model(views)[1])
        found.append(contrastive_metrics(*z, config.temperature, normalize=normalize)[:2])
    accuracy, entropy = (torch.stack(values).mean().item() for values in zip(*found, strict=True))
    return {"contrastive": accuracy, "entropy": entropy}


def _draw(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(12, 7.5))
    (top1, contrastive), (entropy, rest) = figure.subplots(2, 2)
    _draw_metric(top1, rows, "linear", 100, "linear probe of h, %")
    _draw_metric(contrastive, rows, "contrastive", 100, "contrastive accuracy, %")
    _draw_metric(entropy, rows, "entropy", 1, "entropy of the softmax, nats")
    rest.axis("off")
    handles, labels = top1.get_legend_handles_labels()
    rest.legend(handles, labels, loc="center", title="similarity", fontsize=14, title_fontsize=14)
    return figure


def _draw_metric(axes: Axes, rows: Sequence[Row], value: str, factor: float, label: str) -> None:
    accuracies = over_seeds(rows, ["similarity", "temperature"], value)
    for index, kind in enumerate((_NORMALIZED, _PLAIN)):
        points = {float(t): a for (similarity, t), a in accuracies.items() if similarity == kind}
        draw_line(axes, points, kind, index, factor)
    ticks = sorted({float(t) for _, t in accuracies})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set(xlabel="temperature T", ylabel=label)


def _findings(rows: Sequence[Row]) -> Findings:
    keys = ["similarity", "temperature"]
    top1, knn, contrastive, entropy = (
        over_seeds(rows, keys, value) for value in ("linear", "knn", "contrastive", "entropy")
    )

    def best(accuracies: Groups, kind: str) -> Accuracy | None:
        return highest(a for (similarity, _), a in accuracies.items() if similarity == kind)

    def cosine(temperature: float) -> Accuracy | None:
        return top1.get((_NORMALIZED, temperature))

    table = [
        [
            f"{similarity}, T = {temperature:g}",
            cell_of(top1[similarity, temperature]),
            cell_of(knn[similarity, temperature]),
            cell_of(contrastive[similarity, temperature]),
            number(entropy[similarity, temperature]),
            f"{paper.top1:.1f}",
            f"{paper.contrastive:.1f}",
            f"{paper.entropy:.1f}",
        ]
        for (similarity, temperature), paper in _PAPER.items()
        if (similarity, temperature) in top1
    ]
    header = ["", "linear probe, %", "k-NN, %", "contrastive, %", "entropy, nats"]
    header += [f"paper: {name}" for name in ("top-1", "contrastive", "entropy")]
    return Findings(
        markdown_table(header, table),
        (
            ordering("With cosines, T = 0.1 is better than T = 0.05", cosine(0.1), cosine(0.05)),
            ordering("With cosines, T = 0.1 is better than T = 1", cosine(0.1), cosine(1.0)),
            ordering(
                "At their best temperatures, cosines are better than dot products",
                best(top1, _NORMALIZED),
                best(top1, _PLAIN),
            ),
            ordering(
                "Dot products nevertheless reach a higher contrastive accuracy",
                best(contrastive, _PLAIN),
                best(contrastive, _NORMALIZED),
            ),
        ),
        "Contrastive accuracy and entropy are measured after the training, on new views of "
        "training images. The maximum entropy, ln(2N - 1), depends on the batch size.",
    )


STUDY = Study(
    title="l2 norm and temperature",
    question="How do the normalization of z and the temperature of the loss affect the "
    "representation, and does a better contrastive accuracy mean a better representation?",
    source="section 5.1, table 5",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
