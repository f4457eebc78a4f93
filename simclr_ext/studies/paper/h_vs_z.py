"""What h keeps of a view's transformation and z = g(h) discards (section 4.2, table 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Generator, Tensor

from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.figures import COLORS
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.pretraining import h_and_z, train_model
from simclr_ext.studies.material.summary import cell_of, ordering, over_seeds
from simclr_ext.studies.material.transforms import (
    Transform,
    gaussian_noise,
    grayscale,
    rotate,
    sobel,
)
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.probes.features import Features, Labels, encode
from simclr_ext.trainer.probes.tables import markdown_table
from simclr_ext.trainer.seeds import Stream, derive_seed, generator
from simclr_ext.trainer.views.batches import MemorySource
from simclr_ext.trainer.views.image_ops import resize

_HIDDEN = 256  # ours: the paper does not give the width of its classifier


@dataclass(frozen=True)
class Task:
    """Predicting from a representation the transformation that was applied to the view.

    Attributes:
        title: Name of the task in the table.
        shares: Share of the views that have each label.
        apply: Function of views [B, C, S, S], their labels [B] and a random generator to the
            transformed views.
        added: Whether the transformation is added to the augmentation of the pretraining; if not,
            it is already a part of it.
        paper: The paper's accuracies by h and by g(h), in per cent (table 3).
    """

    title: str
    shares: tuple[float, ...]
    apply: Callable[[Tensor, Tensor, Generator], Tensor]
    added: bool
    paper: tuple[float, float]

    @property
    def chance(self) -> float:
        """Accuracy in [0, 1] of always predicting the most frequent label."""
        return max(self.shares)

    def draw(self, views: Tensor, random: Generator) -> tuple[Tensor, Tensor]:
        """Return the views transformed at random, and the labels of their transformations."""
        shares = torch.tensor(self.shares, device=random.device)
        labels = torch.multinomial(shares, len(views), replacement=True, generator=random)
        return self.apply(views, labels, random), labels


def _one_where(transform: Transform) -> Callable[[Tensor, Tensor, Generator], Tensor]:
    """Return a function that transforms the views of label 1, and not those of label 0."""

    def apply(views: Tensor, labels: Tensor, random: Generator) -> Tensor:
        chosen = (labels == 1).to(views.device)[:, None, None, None]
        return torch.where(chosen, transform(views, random), views)

    return apply


TASKS = {
    "color": Task("color or gray", (0.8, 0.2), _one_where(grayscale), False, (99.3, 97.4)),
    "rotation": Task(
        "rotation", (0.25,) * 4, lambda views, turns, _: rotate(views, turns), True, (67.6, 25.6)
    ),
    "noise": Task(
        "original or corrupted", (0.5, 0.5), _one_where(gaussian_noise), True, (99.5, 59.6)
    ),
    "sobel": Task("original or Sobel", (0.5, 0.5), _one_where(sobel), True, (96.6, 56.3)),
}
_NAMES = {"h": "h", "z": "g(h)"}


class TaskSource(MemorySource):
    """The views of a run, each also transformed at random by a task."""

    def __init__(self, images: Tensor, config: ResolvedConfig, task: Task) -> None:
        super().__init__(images, config)
        self._task = task

    def views(self, batch: Tensor, seed: int) -> Tensor:
        """Return views; see `simclr_ext.trainer.views.batches.Source`."""
        views = super().views(batch, seed)
        random = generator(derive_seed(seed, Stream.VIEWS), batch.device)
        return self._task.draw(views, random)[0]


def _variants(scale: ScaleName) -> list[Variant]:
    return [{"task": task} for task in TASKS]


def _measure(cell: Cell, context: Context) -> list[Row]:
    """Return a row for h and one for g(h); none for the color task on gray images."""
    data, task = context.data, TASKS[str(cell.variant["task"])]
    if cell.variant["task"] == "color" and data.channels == 1:
        return []
    config = _equal_dimensions(context.config)
    source = TaskSource(data.train.images[:], config, task) if task.added else None
    model = train_model(config, data, source)
    random = generator(cell.seed)
    train, test = (
        task.draw(resize(images[:], config.side), random)
        for images in (data.train.images, data.test.images)
    )
    rows: list[Row] = []
    for name, network in h_and_z(model).items():
        features = [encode(network, views, config.side) for views in (train[0], test[0])]
        accuracy = _accuracy(features[0], train[1].numpy(), features[1], test[1].numpy(), cell.seed)
        rows.append({"representation": name, "accuracy": accuracy, "chance": task.chance})
    return rows


def _equal_dimensions(config: ResolvedConfig) -> ResolvedConfig:
    """Return the run with as many dimensions of z as h has, as in the paper."""
    dim = build_model(config).encoder.dim
    model = dataclasses.replace(config.model, projection="mlp", projection_dim=dim)
    return dataclasses.replace(config, model=model)


def _accuracy(
    train: Features, labels: Labels, test: Features, expected: Labels, seed: int
) -> float:
    """Return the test accuracy of a classifier with a hidden layer, trained on features."""
    mlp = MLPClassifier((_HIDDEN,), early_stopping=True, random_state=seed)
    classifier = make_pipeline(StandardScaler(), mlp).fit(train, labels)
    return float(np.mean(classifier.predict(test) == expected))


def _draw(rows: Sequence[Row]) -> Figure:
    accuracies = over_seeds(rows, ["task", "representation"], "accuracy")
    tasks = [task for task in TASKS if (task, "h") in accuracies]
    figure = Figure(figsize=(9, 5))
    axes = figure.add_subplot()
    place = np.arange(len(tasks))
    for index, (name, title) in enumerate(_NAMES.items()):
        found = [accuracies[task, name] for task in tasks]
        x = place + (index - 0.5) * 0.36
        axes.bar(
            x, [100 * a.mean for a in found], 0.34, yerr=[100 * a.std for a in found], capsize=4,
            color=COLORS[index], hatch=("", "//")[index], edgecolor="white",
            label=f"by {title}, here",
        )  # fmt: skip
        for left, accuracy in zip(x, found, strict=True):
            axes.text(
                left, 4, f"{100 * accuracy.mean:.1f}", ha="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
            )  # fmt: skip
        axes.plot(
            x, [TASKS[task].paper[index] for task in tasks], ls="", marker="D", color="white",
            markeredgecolor="black", markeredgewidth=1.5, label=("the paper's", "_")[index],
        )  # fmt: skip
    axes.hlines(
        [100 * TASKS[task].chance for task in tasks], place - 0.42, place + 0.42,
        color="black", ls="--", lw=1.5, label="chance",
    )  # fmt: skip
    axes.set_xticks(place, [TASKS[task].title for task in tasks])
    axes.set_ylim(0, 105)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="predicted transformation, test accuracy, %")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _findings(rows: Sequence[Row]) -> Findings:
    accuracies = over_seeds(rows, ["task", "representation"], "accuracy")
    table, orderings = [], []
    for name, task in TASKS.items():
        h, z = (accuracies.get((name, representation)) for representation in _NAMES)
        by_h, by_z = task.paper
        chance = f"{100 * task.chance:.0f}"
        table.append([task.title, chance, cell_of(h), cell_of(z), f"{by_h}", f"{by_z}"])
        orderings.append(ordering(f"h predicts it better than g(h): {task.title}", h, z))
    head = ["transformation", "chance, %", "h, %", "g(h), %", "paper, h, %", "paper, g(h), %"]
    return Findings(
        markdown_table(head, table),
        tuple(orderings),
        "A network with one hidden layer predicts from frozen features of whole images which "
        "transformation was applied. For color images, grayscale is part of the augmentation; for "
        "each of the other rows, the transformation was added to the augmentation of the "
        "pretraining. h and g(h) have the same dimension. Images are corrupted by Gaussian noise.",
    )


STUDY = Study(
    title="What the projection head discards",
    question="How much do h, before the projection head, and g(h), after it, know about the "
    "transformation that was applied to a view?",
    source="section 4.2, table 3",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
