"""Maps of representations: t-SNE of h, colored and labeled by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from torch import Tensor

from simclr_ext.options.errors import DataError
from simclr_ext.options.printable import printable
from simclr_ext.trainer.atomic import replacing

DPI = 150
# Petroff's sequence of ten, arXiv 2107.02270: distinct for color-blind readers too.
COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_LEAST_POINTS = 3
TSNE_POINTS = 2000  # more would take minutes and cover each other


def plot_tsne(
    path: Path,
    features: NDArray[np.float32],
    labels: Tensor,
    class_names: Sequence[str],
    seed: int,
    title: str,
) -> None:
    """Draw the t-SNE map of features, colored and labeled by class.

    Args:
        path: PNG to write.
        features: [n, dim]; 2,000 of them are drawn if there are more.
        labels: [n] int64; -1: none.
        class_names: Name of each label; empty: no labels.
        seed: Seed of the map.
        title: Title of the picture.

    Raises:
        DataError: As for `tsne_map`.
    """
    points, rows = tsne_map(features, seed)
    classes = labels.numpy()[rows]
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    axis = figure.add_subplot()
    drawn = draw_map(axis, points, classes, class_names)
    axis.set_title(title)
    if drawn:  # there may be classes, and none of these images be of one
        class_legend(figure, drawn)
    with replacing(path) as file:
        figure.savefig(file, dpi=DPI)


def tsne_map(
    features: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the t-SNE map [m, 2] of features [n, dim], and the rows that it shows, [m].

    All are shown, or a random 2,000 if there are more.

    Raises:
        DataError: As for `tsne`.
    """
    rows = np.random.default_rng(seed).permutation(len(features))[:TSNE_POINTS]
    return tsne(features[rows], seed), rows


def tsne(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the t-SNE map [n, 2] of features [n, dim], started from their principal components.

    Raises:
        DataError: A feature is not finite, or there are fewer than three distinct rows; if all rows
            are equal, scikit-learn's t-SNE crashes the process.
    """
    if not np.isfinite(features).all():
        raise DataError("t-SNE needs finite features")
    if (distinct := len(np.unique(features, axis=0))) < _LEAST_POINTS:
        raise DataError(
            f"t-SNE needs {_LEAST_POINTS} images or more that differ in their features, got "
            f"{distinct} of {len(features)}"
        )
    # t-SNE requires a perplexity below the number of points; 30 is the usual value.
    perplexity = min(30.0, (len(features) - 1) / 3)
    points: NDArray[np.float32] = TSNE(
        perplexity=perplexity, init="pca", random_state=seed
    ).fit_transform(features)
    return points


def draw_map(
    axis: Axes,
    points: NDArray[np.float32],
    classes: NDArray[np.int64],
    class_names: Sequence[str],
) -> list[tuple[str, PathCollection]]:
    """Draw the points [m, 2] of a map in the colors of their classes [m]; label separate ones.

    Returns:
        Names of the classes that have points, with what is drawn of each.
    """
    size = float(np.clip(18000 / len(points), 14, 30))
    span = np.ptp(points, axis=0)  # [2]
    named: list[NDArray[np.float32]] = []
    drawn: list[tuple[str, PathCollection]] = []
    none = points[classes < 0]
    axis.scatter(none[:, 0], none[:, 1], s=size, color=COLORS[3], alpha=0.85, linewidths=0)
    for label in np.unique(classes[classes >= 0]):
        own = points[classes == label]
        marker = _MARKERS[(label + label // len(COLORS)) % len(_MARKERS)]
        points_of_class = axis.scatter(
            own[:, 0], own[:, 1], s=size, color=COLORS[label % len(COLORS)], marker=marker,
            alpha=0.85, linewidths=0,
        )  # fmt: skip
        # What stands between two $ is no formula.
        name = printable(class_names[label]).replace("$", r"\$")
        drawn.append((name, points_of_class))
        center = np.median(own, axis=0)
        nearest = np.argsort(np.linalg.norm(points - center, axis=1))[:20]
        among_its_own = np.mean(classes[nearest] == label) > 0.7
        apart = all(np.any(np.abs(center - other) > (0.18, 0.05) * span) for other in named)
        if among_its_own and apart:  # otherwise the label would mislead, or cover another one
            named.append(center)
            axis.annotate(
                name, center, ha="center", va="center", fontsize=11,
                fontweight="bold", path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip
    axis.set(xlabel="t-SNE 1", ylabel="t-SNE 2")
    axis.set_xticks([])
    axis.set_yticks([])
    return drawn


def class_legend(figure: Figure, drawn: Sequence[tuple[str, PathCollection]]) -> None:
    """Add a legend of the classes, which `draw_map` returns, beside the picture."""
    names, handles = zip(*drawn, strict=True)
    figure.legend(
        handles, names, loc="outside right center", title="class", frameon=False,
        ncols=-(-len(names) // 25), markerscale=1.5,
    )  # fmt: skip
