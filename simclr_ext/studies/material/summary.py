"""Means and spreads over seeds, and whether an ordering of the paper holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simclr_ext.studies.engine.study import Ordering, Row, Value
from simclr_ext.trainer.probes.scores import Accuracy
from simclr_ext.trainer.probes.tables import percent

ABSENT = "–"  # noqa: RUF001  # a dash where there is no number

Groups = dict[tuple[Value, ...], Accuracy]
"""Maps values of some columns to the numbers of the rows with those values."""


def over_seeds(rows: Sequence[Row], keys: Sequence[str], value: str) -> Groups:
    """Return the numbers of each group of rows; the draws are the seeds.

    Args:
        rows: Rows of a study.
        keys: Columns whose combinations of values are the groups.
        value: Column of the numbers; rows without it are left out.

    Example:
        >>> rows: list[Row] = [{"T": 0.1, "seed": s, "knn": 0.5 + s / 10} for s in range(2)]
        >>> over_seeds(rows, ["T"], "knn")
        {(0.1,): Accuracy(draws=(0.5, 0.6))}
    """
    groups: dict[tuple[Value, ...], list[float]] = {}
    for row in rows:
        if value in row:
            groups.setdefault(tuple(row[key] for key in keys), []).append(float(row[value]))
    return {key: Accuracy(tuple(draws)) for key, draws in groups.items()}


def mean_by_seed(rows: Sequence[Row], value: str) -> Accuracy | None:
    """Return the mean over the rows of each seed; None: there are no rows.

    Example:
        >>> rows: list[Row] = [{"seed": s, "dim": d, "knn": s + d} for s in (0, 1) for d in (2, 4)]
        >>> mean_by_seed(rows, "knn")
        Accuracy(draws=(3.0, 4.0))
    """
    seeds = over_seeds(rows, ["seed"], value)
    return Accuracy(tuple(numbers.mean for numbers in seeds.values())) if seeds else None


Pair = tuple[Accuracy | None, Accuracy | None]
"""The accuracies of two groups of rows, which an ordering compares."""


def matched(one: Sequence[Row], other: Sequence[Row], value: str, keys: Sequence[str] = ()) -> Pair:
    """Return the means by seed of two groups, over the rows that both have; None: there are none.

    Cells may fail, and a mean over small and large dimensions must not be compared with one over
    large dimensions only.

    Args:
        one: Rows of a group.
        other: Rows of the other group.
        value: Column of the numbers.
        keys: Columns that, with the seed, match the rows of the groups.

    Example:
        >>> one: list[Row] = [{"seed": 0, "dim": d, "knn": d} for d in (2, 4)]
        >>> other: list[Row] = [{"seed": s, "dim": 2, "knn": 1} for s in (0, 1)]
        >>> matched(one, other, "knn", ["dim"])
        (Accuracy(draws=(2.0,)), Accuracy(draws=(1.0,)))
    """
    columns = ["seed", *keys]
    shared = over_seeds(one, columns, value).keys() & over_seeds(other, columns, value).keys()

    def mean(rows: Sequence[Row]) -> Accuracy | None:
        kept = [row for row in rows if tuple(row[column] for column in columns) in shared]
        return mean_by_seed(kept, value)

    return mean(one), mean(other)


def highest(groups: Iterable[Accuracy | None]) -> Accuracy | None:
    """Return the accuracy with the highest mean; None: there is none."""
    measured = [accuracy for accuracy in groups if accuracy is not None]
    return max(measured, key=lambda accuracy: accuracy.mean, default=None)


def cell_of(accuracy: Accuracy | None) -> str:
    """Return a table's cell: per cent with the spread, or a dash if nothing was measured."""
    return ABSENT if accuracy is None else percent(accuracy)


def number(values: Accuracy) -> str:
    """Return a table's cell of a number that is not a share: the mean with the spread."""
    mean = f"{values.mean:.2f}"
    return mean if len(values.draws) == 1 else f"{mean} ± {values.std:.2f}"


def ordering(claim: str, better: Accuracy | None, worse: Accuracy | None) -> Ordering:
    """Return whether one accuracy exceeds another, as in the paper, by more than the spread.

    Args:
        claim: The paper's finding, in a sentence without a full stop.
        better: What was better in the paper; None: not measured here.
        worse: What was worse.
    """
    if better is None or worse is None:
        return Ordering(claim, None, "cells are missing")
    difference = better.mean - worse.mean
    numbers = f"{percent(better)} against {percent(worse)}"
    if min(len(better.draws), len(worse.draws)) == 1:
        numbers += ", of a single seed"
    if abs(difference) <= (better.std**2 + worse.std**2) ** 0.5:
        return Ordering(claim, None, f"{numbers}, closer than the spread over seeds")
    return Ordering(claim, difference > 0, numbers)
