"""Strength of the color distortion, for SimCLR and for training with labels (table 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.figures import draw_line
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.auto_augment import AutoAugment
from simclr_ext.studies.material.pretraining import probe, train_model
from simclr_ext.studies.material.summary import cell_of, ordering, over_seeds
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.config.commands import SgdConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.probes.classifier import predict, train_classifier
from simclr_ext.trainer.probes.linear import linear_classifier
from simclr_ext.trainer.probes.scores import Accuracy
from simclr_ext.trainer.probes.tables import markdown_table
from simclr_ext.trainer.views.augment import Augment, crop_and_flip
from simclr_ext.trainer.views.batches import MemorySource

Augmentation = Callable[[Tensor, Generator], Tensor]

_TRAININGS = ("SimCLR", "supervised")
_BLUR, _AUTO = "1 + blur", "AutoAugment"
_STRENGTHS = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0, _BLUR: 1.0}


class _Paper(NamedTuple):
    """A column of table 1: top-1 accuracies in per cent."""

    simclr: float
    supervised: float


_PAPER = {
    "1/8": _Paper(59.6, 77.0),
    "1/4": _Paper(61.0, 76.7),
    "1/2": _Paper(62.6, 76.5),
    "1": _Paper(63.2, 75.7),
    _BLUR: _Paper(64.5, 75.4),
    _AUTO: _Paper(61.1, 77.1),
}


def _variants(scale: ScaleName) -> list[Variant]:
    distortions = ("1/8", _BLUR, _AUTO) if scale == "tiny" else tuple(_PAPER)
    return [
        {"training": training, "distortion": distortion}
        for training in _TRAININGS
        for distortion in distortions
    ]


def _measure(cell: Cell, context: Context) -> list[Row]:
    augment = _augmentation(str(cell.variant["distortion"]), context.config)
    if cell.variant["training"] == "supervised":
        return [{"top1": _supervised(augment, context.data, context.config)}]
    source = MemorySource(context.data.train.images[:], context.config, augment)
    model = train_model(context.config, context.data, source)
    accuracies = probe(model.encoder, context.data, context.config.side)
    return [{"top1": accuracies["linear"], "knn": accuracies["knn"]}]


def _augmentation(distortion: str, config: ResolvedConfig) -> Augmentation:
    """Return crop and flip with a distortion of the colors, a column of table 1."""
    if distortion == _AUTO:
        return AutoAugment(crop_and_flip(config.augment, config.side))
    strength, blur = _STRENGTHS[distortion], 0.5 if distortion == _BLUR else 0.0
    changes = dataclasses.replace(config.augment, jitter_strength=strength, blur_probability=blur)
    return Augment(changes, config.side)


def _supervised(augment: Augmentation, data: Dataset, config: ResolvedConfig) -> float:
    """Return the test accuracy of the encoder trained with labels, for as many epochs."""
    encoder = build_model(config).encoder
    linear = linear_classifier(encoder.dim, len(data.class_names), config.seed)
    classifier = nn.Sequential(encoder, linear).to(config.device).train()

    def inputs(rows: Tensor, generator: Generator) -> Tensor:
        return augment(data.train.images[rows].to(config.device), generator)

    labels = data.train.labels.to(config.device)
    sgd = SgdConfig(epochs=config.epochs, batch_size=config.batch_size)
    train_classifier(classifier, inputs, labels, sgd, config.seed)
    predicted = predict(classifier, data.test.images, config.side)
    return float(np.mean(predicted == data.test.labels.numpy()))


def _draw(rows: Sequence[Row]) -> Figure:
    accuracies = over_seeds(rows, ["training", "distortion"], "top1")
    names = [name for name in _PAPER if any(name == found for _, found in accuracies)]
    figure = Figure(figsize=(10, 4.5))
    for index, (axes, training) in enumerate(zip(figure.subplots(1, 2), _TRAININGS, strict=True)):
        points = {
            float(names.index(str(name))): accuracy
            for (own, name), accuracy in accuracies.items()
            if own == training and name != _AUTO
        }
        draw_line(axes, points, training, index)
        if (training, _AUTO) in accuracies:  # no strength: apart from the line
            auto = {float(names.index(_AUTO)): accuracies[training, _AUTO]}
            draw_line(axes, auto, _AUTO, index)
        labels = [name.replace(" + ", "\n+ ").replace("Auto", "Auto-\n") for name in names]
        axes.set_xticks(range(len(names)), labels)
        axes.set_xlim(-0.4, len(names) - 0.6)
        axes.set(xlabel="strength of the color distortion", title=training)
        axes.set_ylabel("linear probe of h, test accuracy, %" if index == 0 else "test accuracy, %")
    return figure


def _findings(rows: Sequence[Row]) -> Findings:
    accuracies, knn = (
        over_seeds(rows, ["training", "distortion"], value) for value in ("top1", "knn")
    )

    def simclr(name: str) -> Accuracy | None:
        return accuracies.get(("SimCLR", name))

    def supervised(name: str) -> Accuracy | None:
        return accuracies.get(("supervised", name))

    table = [
        [
            name,
            cell_of(simclr(name)),
            cell_of(knn.get(("SimCLR", name))),
            f"{paper.simclr:.1f}",
            cell_of(supervised(name)),
            f"{paper.supervised:.1f}",
        ]
        for name, paper in _PAPER.items()
        if simclr(name) or supervised(name)
    ]
    header = ["strength", "SimCLR, linear probe, %", "k-NN, %", "paper", "supervised, %", "paper"]
    return Findings(
        markdown_table(header, table),
        (
            ordering("Strong colors make SimCLR better than weak ones", simclr("1"), simclr("1/8")),
            ordering("Blur makes SimCLR better still", simclr(_BLUR), simclr("1")),
            ordering(
                "Colors and blur are better for SimCLR than AutoAugment",
                simclr(_BLUR),
                simclr(_AUTO),
            ),
            ordering(
                "With labels, weak colors are better than strong ones",
                supervised("1/8"),
                supervised("1"),
            ),
            ordering(
                "With labels, AutoAugment is better than colors and blur",
                supervised(_AUTO),
                supervised(_BLUR),
            ),
        ),
        "The supervised encoder is trained for as many epochs, by SGD at 0.1 x batch / 256. "
        "Compare numbers within a column, not across columns.",
    )


STUDY = Study(
    title="Strength of the color distortion",
    question="How strong should the color distortion be, and is the best strength for training "
    "with labels also the best for SimCLR?",
    source="section 3.2, table 1",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
