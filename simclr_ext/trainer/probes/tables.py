"""Evaluation results as a table for readers and as JSON for programs."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.probes.comparison import DRAWS, LABELS_PER_CLASS
from simclr_ext.trainer.probes.knn import NEIGHBORS, TEMPERATURE
from simclr_ext.trainer.probes.linear import PROBE_C
from simclr_ext.trainer.probes.scores import Accuracy, Scores


def format_table(scores: Mapping[str, Scores]) -> str:
    """Return the accuracies in per cent, a row per representation.

    Args:
        scores: Name of each representation to its accuracies.
    """
    few = f"{LABELS_PER_CLASS} labels per class, "
    header = ["test accuracy, %", few + "linear", few + "k-NN", "all labels, linear", "k-NN"]
    rows = [
        [name, *map(percent, (s.linear_few, s.knn_few, s.linear_all, s.knn_all))]
        for name, s in scores.items()
    ]
    note = f"± is the standard deviation over {DRAWS} draws of the {LABELS_PER_CLASS} labels."
    return f"{markdown_table(header, rows)}\n{note}"


def percent(accuracy: Accuracy) -> str:
    """Return the mean in per cent, with the deviation if there are several draws."""
    mean = f"{100 * accuracy.mean:.1f}"
    return mean if len(accuracy.draws) == 1 else f"{mean} ± {100 * accuracy.std:.1f}"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return an aligned table: the first column is text, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_align(line, widths) for line in (header, rule, *rows))


def _align(cells: list[str], widths: list[int]) -> str:
    name, *numbers = cells
    aligned = [name.ljust(widths[0])]
    aligned += [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
    return "| " + " | ".join(aligned) + " |"


def markdown_text(text: str) -> str:
    """Return a name as Markdown that shows it in one line, whatever it has in it.

    Example:
        >>> markdown_text("<b>[a](b)")
        '&lt;b&gt;&#91;a&#93;(b)'
    """
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"[\[\]`|]", lambda found: f"&#{ord(found[0])};", escaped)


def write_scores(path: Path, scores: Mapping[str, Scores], step: int) -> None:
    """Write the accuracies, as fractions and of every draw, and the protocol.

    Args:
        path: File to write or replace.
        scores: Name of each representation to its accuracies.
        step: Steps that the trained encoder was trained for.
    """
    contents = {
        "step": step,
        "protocol": {
            "features": "standardized by the training images, divided by sqrt(dimension)",
            "labels_per_class": LABELS_PER_CLASS,
            "draws": DRAWS,
            "linear": {"logistic_regression_C": PROBE_C},
            "knn": {"neighbors": NEIGHBORS, "temperature": TEMPERATURE},
        },
        "test_accuracy": {name: _plain(s) for name, s in scores.items()},
    }
    write_text(path, json.dumps(contents, indent=2) + "\n")


def read_scores(path: Path) -> tuple[int, dict[str, Scores]]:
    """Return the step and the accuracies that `write_scores` wrote."""
    contents = json.loads(path.read_text(encoding="utf-8"))
    scores = {
        name: Scores(**{probe: Accuracy(tuple(value["draws"])) for probe, value in row.items()})
        for name, row in contents["test_accuracy"].items()
    }
    return contents["step"], scores


def _plain(scores: Scores) -> dict[str, dict[str, Any]]:
    accuracies = {f.name: getattr(scores, f.name) for f in dataclasses.fields(scores)}
    return {name: accuracy_to_plain(accuracy) for name, accuracy in accuracies.items()}


def accuracy_to_plain(accuracy: Accuracy) -> dict[str, Any]:
    """Return an accuracy as it is written to JSON."""
    return {"mean": accuracy.mean, "std": accuracy.std, "draws": list(accuracy.draws)}
