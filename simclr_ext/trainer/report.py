"""Evaluation results as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simclr_ext.trainer.evaluate import (
    DRAWS,
    KNN_TEMPERATURE,
    LABELS_PER_CLASS,
    NEIGHBOURS,
    PROBE_C,
    Accuracy,
    Scores,
)


def format_table(scores: Mapping[str, Scores]) -> str:
    """Return the accuracies in per cent, a row per representation.

    Args:
        scores: Name of each representation to its accuracies.
    """

    def cell(accuracy: Accuracy) -> str:
        mean = f"{100 * accuracy.mean:.1f}"
        return mean if len(accuracy.draws) == 1 else f"{mean} ± {100 * accuracy.std:.1f}"

    few = f"{LABELS_PER_CLASS} labels per class, "
    header = ["test accuracy, %", few + "linear", few + "k-NN", "all labels, linear", "k-NN"]
    rows = [
        [name, *map(cell, (s.linear_few, s.knn_few, s.linear_all, s.knn_all))]
        for name, s in scores.items()
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    note = f"± is the standard deviation over {DRAWS} draws of the {LABELS_PER_CLASS} labels."
    table = "\n".join(_align(line, widths) for line in lines)
    return f"{table}\n{note}"


def _align(cells: list[str], widths: list[int]) -> str:
    name, *numbers = cells
    aligned = [name.ljust(widths[0])]
    aligned += [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
    return "| " + " | ".join(aligned) + " |"


def write_scores(path: Path, scores: Mapping[str, Scores]) -> None:
    """Write the accuracies, as fractions and with the single draws, and how they were measured."""
    contents = {
        "protocol": {
            "features": "standardised by the training images, divided by sqrt(dimension)",
            "labels_per_class": LABELS_PER_CLASS,
            "draws": DRAWS,
            "linear": {"logistic_regression_C": PROBE_C},
            "knn": {"neighbours": NEIGHBOURS, "temperature": KNN_TEMPERATURE},
        },
        "test_accuracy": {name: _plain(s) for name, s in scores.items()},
    }
    path.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")


def _plain(scores: Scores) -> dict[str, dict[str, Any]]:
    accuracies = {f.name: getattr(scores, f.name) for f in dataclasses.fields(scores)}
    return {
        name: {"mean": accuracy.mean, "std": accuracy.std, "draws": list(accuracy.draws)}
        for name, accuracy in accuracies.items()
    }
