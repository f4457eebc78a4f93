"""NT-Xent against NT-Logistic and margin triplet losses (section 5.1, tables 2 and 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from simclr_ext import NTXentLoss
from simclr_ext.studies.config import ScaleName
from simclr_ext.studies.engine.figures import COLORS, MARKERS
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study, Variant
from simclr_ext.studies.material.other_losses import (
    margin_triplet_loss,
    margin_triplet_rows,
    nt_logistic_loss,
    nt_logistic_rows,
)
from simclr_ext.studies.material.pretraining import probe, train_model
from simclr_ext.studies.material.summary import cell_of, highest, ordering, over_seeds
from simclr_ext.trainer.probes.scores import Accuracy
from simclr_ext.trainer.probes.tables import markdown_table
from simclr_ext.trainer.training.gradient import Loss

# Name in the rows to title and the paper's top-1 accuracy (table 4), best first.
_LOSSES = {
    "nt-xent": ("NT-Xent", 63.9),
    "nt-logistic-sh": ("NT-Logistic, semi-hard", 57.9),
    "margin-sh": ("margin triplet, semi-hard", 57.5),
    "nt-logistic": ("NT-Logistic", 51.6),
    "margin": ("margin triplet", 50.9),
}
# Temperatures and margins of appendix B.10, which tunes each loss, without the margin 0. Semi-hard
# negatives are within any of these margins, which therefore make no difference; smaller ones do.
_TEMPERATURES = (0.1, 0.2, 0.5, 1.0)
_MARGINS = (0.4, 0.8, 1.6)
_SEMI_HARD_MARGINS = (0.05, 0.1, 0.4)
_TINY_PARAMETER = 0.5
# The picture's negatives, and its positive.
_NEGATIVES = 200
_POSITIVE = 0.9


def _variants(scale: ScaleName) -> list[Variant]:
    def parameters(loss: str) -> tuple[float, ...]:
        if scale == "tiny":
            return (_TINY_PARAMETER,)
        if not _is_margin(loss):
            return _TEMPERATURES
        return _SEMI_HARD_MARGINS if loss.endswith("-sh") else _MARGINS

    return [{"loss": loss, "parameter": value} for loss in _LOSSES for value in parameters(loss)]


def _is_margin(loss: str) -> bool:
    return loss.startswith("margin")


def build_loss(name: str, parameter: float) -> Loss:
    """Return a loss by its name in the rows, at a temperature or a margin."""
    if name == "nt-xent":
        return NTXentLoss(parameter)
    if _is_margin(name):
        return partial(margin_triplet_loss, margin=parameter, semi_hard=name.endswith("-sh"))
    return partial(nt_logistic_loss, temperature=parameter, semi_hard=name.endswith("-sh"))


def _measure(cell: Cell, context: Context) -> list[Row]:
    loss = build_loss(str(cell.variant["loss"]), float(cell.variant["parameter"]))
    model = train_model(context.config, context.data, loss=loss)
    return [probe(model.encoder, context.data, context.config.side)]


def _draw(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(12, 5))
    left, right = figure.subplots(1, 2)
    _draw_accuracies(left, rows)
    _draw_weights(right)
    return figure


def _draw_accuracies(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw a row per loss: the spread over seeds at its best parameter, the others as points."""
    best = _best(rows)
    for index, loss in enumerate(_LOSSES):
        all_of = over_seeds([row for row in rows if row["loss"] == loss], ["parameter"], "linear")
        color, marker = COLORS[index], MARKERS[index]
        for accuracy in all_of.values():
            axes.plot(100 * accuracy.mean, index, marker, color=color, mfc="none", alpha=0.6)
        if loss in best:
            parameter, accuracy = best[loss]
            axes.errorbar(
                100 * accuracy.mean, index, xerr=100 * accuracy.std, color=color, marker=marker,
                markersize=10, capsize=5,
            )  # fmt: skip
            axes.annotate(
                f"{_symbol(loss)} = {parameter:g}", (100 * accuracy.mean, index), (0, -12),
                textcoords="offset points", ha="center", va="top",
            )  # fmt: skip
    axes.set_yticks(range(len(_LOSSES)), [title for title, _ in _LOSSES.values()])
    axes.set_ylim(len(_LOSSES) - 0.4, -0.5)
    axes.margins(x=0.12)
    axes.set(xlabel="linear probe of h, test accuracy, %", title="Best parameter; hollow: others")


def _symbol(loss: str) -> str:
    return "m" if _is_margin(loss) else "T"


def _draw_weights(axes: Axes) -> None:
    """Draw each negative's share of the gradient of all negatives of a row."""
    curves: list[tuple[str, str, Callable[[Tensor, Tensor], Tensor]]] = [
        *((f"NT-Xent, T = {t:g}", "-", partial(nt_xent_rows, temperature=t))
          for t in (0.1, 0.2, 0.5, 1.0)),
        ("NT-Logistic, T = 0.2", "--", partial(nt_logistic_rows, temperature=0.2)),
        ("margin triplet, m = 0.4", ":", partial(margin_triplet_rows, margin=0.4)),
    ]  # fmt: skip
    for index, (label, style, rows_of) in enumerate(curves):
        similarity, weight = negative_weights(rows_of)
        shown = weight > 0
        share = weight[shown] / weight.mean()
        axes.plot(similarity[shown], share, style, color=COLORS[index], label=label, lw=2.5)
    axes.axvline(_POSITIVE, color="black", lw=1)
    axes.annotate("positive", (_POSITIVE, 0.012), (-4, 0), textcoords="offset points", ha="right")
    axes.set_yscale("log")
    axes.set_ylim(0.01, 40)
    axes.set(
        xlabel="similarity s of a negative",
        ylabel="dL/ds, relative to the mean negative's",
        title="Weight of hard negatives",
    )
    axes.legend(loc="upper left", fontsize=11)


def negative_weights(rows_of: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return similarities [K] of negatives, evenly spaced in [-1, 1], and a row's dL/ds at each.

    Args:
        rows_of: Function of similarities to the positive [1, 1] and to the negatives [1, K], to the
            row's loss [1].
    """
    positive = torch.full((1, 1), _POSITIVE, dtype=torch.float64)
    similarity = torch.linspace(-1, 1, _NEGATIVES, dtype=torch.float64)
    negatives = similarity[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(rows_of(positive, negatives).sum(), negatives)
    return similarity, gradient[0]


def nt_xent_rows(positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Return the NT-Xent losses of rows; see `nt_logistic_rows`."""
    logits = torch.cat([positive, negatives], dim=1) / temperature
    return logits.logsumexp(dim=1) - logits[:, 0]


def _best(rows: Sequence[Row]) -> dict[str, tuple[float, Accuracy]]:
    """Return each loss's best parameter and its accuracies."""
    best: dict[str, tuple[float, Accuracy]] = {}
    for (loss, parameter), accuracy in over_seeds(rows, ["loss", "parameter"], "linear").items():
        if str(loss) not in best or accuracy.mean > best[str(loss)][1].mean:
            best[str(loss)] = (float(parameter), accuracy)
    return best


def _findings(rows: Sequence[Row]) -> Findings:
    best, knn = _best(rows), over_seeds(rows, ["loss", "parameter"], "knn")
    table = []
    for loss, (title, paper) in _LOSSES.items():
        parameter, accuracy = best.get(loss, (None, None))
        shown = "" if parameter is None else f"{_symbol(loss)} = {parameter:g}"
        neighbors = None if parameter is None else knn[loss, parameter]
        table.append([title, shown, cell_of(accuracy), cell_of(neighbors), f"{paper:.1f}"])

    def accuracy_of(loss: str) -> Accuracy | None:
        return best[loss][1] if loss in best else None

    runner_up = highest(accuracy_of(loss) for loss in _LOSSES if loss != "nt-xent")
    return Findings(
        markdown_table(
            ["loss", "best of", "linear probe, %", "k-NN, %", "paper, ImageNet top-1, %"], table
        ),
        (
            ordering("NT-Xent is better than every other loss", accuracy_of("nt-xent"), runner_up),
            ordering(
                "NT-Logistic needs semi-hard negatives",
                accuracy_of("nt-logistic-sh"),
                accuracy_of("nt-logistic"),
            ),
            ordering(
                "The margin loss needs semi-hard negatives",
                accuracy_of("margin-sh"),
                accuracy_of("margin"),
            ),
        ),
        "Each loss is shown at its best temperature T or margin m by test accuracy. Above a "
        "certain margin, all semi-hard negatives are within it, and its value makes no difference. "
        "The paper also tunes the learning rate of each loss; here it is the same for all. The "
        "right half of the picture is computed, not trained: the gradient of one row whose "
        f"positive has similarity {_POSITIVE} and whose {_NEGATIVES} negatives are evenly spaced. "
        "NT-Xent weights a negative by exp(s / T); the other losses give the same weight to all "
        "that are hard enough, and need their negatives selected.",
    )


STUDY = Study(
    title="Loss functions",
    question="Is NT-Xent better than other contrastive losses, and do those need semi-hard "
    "negatives?",
    source="section 5.1, tables 2 and 4",
    variants=_variants,
    measure=_measure,
    draw=_draw,
    findings=_findings,
)
