"""A small batch step by step: views, similarities, masked softmax, loss term by term.

With s the cosine similarities of the 2N views, T the temperature, and p(i) the other view of the
image of view i (section 2.1, equation 1):

    P_ij = exp(s_ij / T) / sum_{k != i} exp(s_ik / T),    l_i = -log P_ip(i),    L = mean l_i
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.figures import COLORS
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.pictures import show, to_text
from simclr_ext.studies.material.pretraining import train_model
from simclr_ext.trainer.probes.tables import markdown_table
from simclr_ext.trainer.seeds import generator
from simclr_ext.trainer.training.gradient import halves
from simclr_ext.trainer.views.augment import Augment

_IMAGES = 4  # N


def _variants(scale: ScaleName) -> list[Variant]:
    return [{}]


def _measure(cell: Cell, context: Context) -> list[Row]:
    """Return a row per picture, one per view with its loss, and one per pair of views."""
    data, config = context.data, context.config
    model = train_model(config, data).eval()
    random = generator(cell.seed)
    images = data.test.images[torch.randperm(len(data.test.images), generator=random)[:_IMAGES]]
    augment = Augment(config.augment, config.side)
    views = torch.cat([augment(images, random), augment(images, random)])  # [2N, C, S, S]
    with torch.no_grad():
        z = model(views.to(config.device))[1]  # [2N, D]

    rows: list[Row] = [
        {"picture": name, "png": to_text(picture)}
        for name, picture in zip(
            [*(str(i + 1) for i in range(_IMAGES)), *_names()], [*images, *views], strict=True
        )
    ]
    return rows + work_through(z, config.temperature)


def work_through(z: Tensor, temperature: float) -> list[Row]:
    """Return the numbers behind the loss of z [2N, D]: a row per view and one per pair."""
    count = len(z)
    names = _names(count // 2)
    unit = F.normalize(z.double().cpu(), dim=1)
    similarity = unit @ unit.T  # [2N, 2N]
    logits = (similarity / temperature).fill_diagonal_(-torch.inf)
    probability = logits.softmax(dim=1)
    log_sum = logits.logsumexp(dim=1)
    losses = nt_xent_loss(*halves(z), temperature, reduction="none")
    rows: list[Row] = []
    for i in range(count):
        p = (i + count // 2) % count
        rows.append(
            {
                "view": names[i],
                "positive": names[p],
                "temperature": temperature,
                "positive_similarity": float(similarity[i, p]),
                "log_sum": float(log_sum[i]),
                "positive_probability": float(probability[i, p]),
                "loss": float(losses[i]),
            }
        )
        rows += [
            {
                "view": names[i],
                "other": names[j],
                "similarity": float(similarity[i, j]),
                "probability": float(probability[i, j]),
            }
            for j in range(count)
        ]
    return rows


def _names(images: int = _IMAGES) -> list[str]:
    """Return the names of the views in the loss's order: all first ones, then all second ones."""
    return [f"{image + 1}{view}" for view in "ab" for image in range(images)]


def _draw(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(12, 11))
    (top_left, top_right), (low_left, low_right) = figure.subfigures(2, 2, squeeze=False)
    _draw_pictures(top_left, rows)
    similarities = top_right.subplots()
    _draw_matrix(similarities, _matrix(rows, "similarity"), "RdBu_r", (-1, 1), "{:.2f}")
    similarities.set_title("cosine similarity s")
    probability = 100 * _matrix(rows, "probability")
    np.fill_diagonal(probability, np.nan)
    softmax = low_left.subplots()
    _draw_matrix(softmax, probability, "cividis", (0, 100), "{:.1f}")
    softmax.set_title("softmax of s / T without the view itself, %")
    _draw_terms(low_right, _terms(rows))
    return figure


def _draw_pictures(figure: SubFigure, rows: Sequence[Row]) -> None:
    """Draw a row per image, with its two views."""
    pictures = {str(row["picture"]): str(row["png"]) for row in rows if "picture" in row}
    panels = figure.subplots(_IMAGES, 3)
    for image, line in enumerate(panels):
        names = (f"{image + 1}", f"{image + 1}a", f"{image + 1}b")
        for axes, name, title in zip(line, names, ("image", "view a", "view b"), strict=True):
            show(axes, pictures[name])
            axes.set_xlabel(name, labelpad=2)
            if image == 0:
                axes.set_title(title)


def _matrix(rows: Sequence[Row], value: str) -> NDArray[np.float64]:
    """Return the numbers of the pairs of views, [2N, 2N]."""
    names = _names()
    matrix = np.zeros((len(names), len(names)))
    for row in rows:
        if value in row:
            matrix[names.index(str(row["view"])), names.index(str(row["other"]))] = row[value]
    return matrix


def _draw_matrix(
    axes: Axes,
    matrix: NDArray[np.float64],
    colors: str,
    limits: tuple[float, float],
    form: str,
) -> None:
    """Draw the numbers of all pairs, the positives framed, and the diagonal crossed out if NaN."""
    names = _names()
    image = axes.imshow(matrix, cmap=colors, vmin=limits[0], vmax=limits[1])
    for (row, column), value in np.ndenumerate(matrix):
        if np.isnan(value):
            axes.plot((column - 0.5, column + 0.5), (row - 0.5, row + 0.5), color="black", lw=1)
            continue
        red, green, blue, _ = image.to_rgba(value)
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        axes.text(
            column, row, form.format(value), ha="center", va="center", fontsize=12,
            color="white" if dark else "black",
        )  # fmt: skip
    for row in range(len(names)):
        positive = ((row + _IMAGES) % len(names) - 0.47, row - 0.47)
        axes.add_patch(
            Rectangle(
                positive, 0.94, 0.94, fill=False, edgecolor="black", linewidth=2.5,
                path_effects=[withStroke(linewidth=5, foreground="white")],
            )
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="view j (framed: the positive)", ylabel="view i")


def _draw_terms(figure: SubFigure, terms: Sequence[Row]) -> None:
    """Draw each view's loss as a bar between the two terms whose difference it is."""
    axes = figure.subplots()
    place = range(len(terms))
    losses = np.array([float(row["loss"]) for row in terms])
    attraction = [float(row["positive_similarity"]) / float(row["temperature"]) for row in terms]
    axes.barh(place, losses, 0.5, left=attraction, color=COLORS[0], alpha=0.35, label="loss")
    axes.plot(attraction, place, "D", color=COLORS[1], label="s / T of the positive")
    axes.plot(
        [float(row["log_sum"]) for row in terms], place, "s", color=COLORS[0],
        label="log sum of exp(s / T)",
    )  # fmt: skip
    for row, start, loss in zip(place, attraction, losses, strict=True):
        axes.text(start + loss / 2, row, f"{loss:.2f}", ha="center", va="center")
    axes.set_yticks(place, [str(row["view"]) for row in terms])
    axes.set_ylim(len(terms) - 0.5, -0.5)
    axes.use_sticky_edges = False  # otherwise the markers at the bars' ends are cut
    axes.margins(x=0.05)
    axes.set(xlabel="nats", ylabel="view i", title=f"loss of each view; mean {losses.mean():.3f}")
    figure.legend(loc="outside lower center", ncols=2)


def _terms(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the views."""
    return [row for row in rows if "loss" in row]


def _findings(rows: Sequence[Row]) -> Findings:
    terms = _terms(rows)
    table = [
        [
            str(row["view"]),
            str(row["positive"]),
            f"{row['positive_similarity']:.4f}",
            f"{float(row['positive_similarity']) / float(row['temperature']):.4f}",
            f"{row['log_sum']:.4f}",
            f"{100 * float(row['positive_probability']):.2f}",
            f"{row['loss']:.4f}",
        ]
        for row in terms
    ]
    mean = float(np.mean([float(row["loss"]) for row in terms]))
    head = ["view i", "positive p", "s_ip", "s_ip / T", "log sum", "P_ip, %", "loss"]
    return Findings(
        markdown_table([*head[:-1], "log sum - s_ip / T"], table),
        note=f"{_written_out(rows)}\n\nThe loss of the batch is the mean of all "
        f"{len(terms)}: **{mean:.4f}**. The losses are those that `nt_xent_loss` returns for these "
        'z with `reduction="none"`; its chance level is '
        f"ln({len(terms) - 1}) = {np.log(len(terms) - 1):.4f}. The views were encoded in "
        "evaluation mode by the network that this recipe trained.",
    )


def _written_out(rows: Sequence[Row]) -> str:
    """Return the first view's loss in numbers."""
    first = _terms(rows)[0]
    t = float(first["temperature"])
    others = [
        float(row["similarity"]) for row in rows
        if row.get("view") == first["view"] and row.get("other", first["view"]) != first["view"]
    ]  # fmt: skip
    total = " + ".join(f"exp({value:.3f} / {t:g})" for value in others)
    return (
        f"View {first['view']}, whose positive is {first['positive']}, against all views but "
        f"itself:\n\n    log[{total}]\n    - {first['positive_similarity']:.3f} / {t:g} "
        f"= {first['loss']:.4f}"
    )


STUDY = Study(
    title="NT-Xent step by step",
    question="How is the loss of a small batch computed: which similarities attract, which repel, "
    "and how much does each view contribute?",
    source="section 2.1, equation 1 and algorithm 1",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
    repeated=False,
)
