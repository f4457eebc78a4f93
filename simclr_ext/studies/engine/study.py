"""A study: a grid of cells, the measurement of a cell, and the evaluation of the rows."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from simclr_ext.studies.config import ScaleName
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset

Value = str | int | float
Variant = Mapping[str, Value]
"""The values of a grid point, such as {"head": "mlp", "dim": 128}."""

Row = dict[str, Value]
"""One line of the study's CSV file."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid, with one seed.

    Attributes:
        variant: The grid point.
        seed: Seed of everything random.
    """

    variant: Variant
    seed: int

    @property
    def id(self) -> str:
        """Name of the cell's files.

        Example:
            >>> Cell({"head": "mlp", "dim": 128}, seed=0).id
            'head=mlp,dim=128,seed=0'
        """
        values = {**self.variant, "seed": self.seed}
        name = ",".join(f"{key}={value}" for key, value in values.items())
        return name.replace("/", "_").replace(" ", "")


@dataclass(frozen=True)
class Context:
    """The data and the recipe that cells use.

    Attributes:
        data: The images, in memory.
        config: The scale's recipe, resolved for the images; a study varies it, and each cell sets
            its own seed.
    """

    data: Dataset
    config: ResolvedConfig


@dataclass(frozen=True)
class Ordering:
    """A finding of the paper, and whether it holds here.

    Attributes:
        claim: The paper's finding, in a sentence without a full stop.
        holds: Whether it holds here; None: the numbers are missing, or too close together.
        numbers: The numbers that decide it, as text.
    """

    claim: str
    holds: bool | None
    numbers: str


@dataclass(frozen=True)
class Findings:
    """What the rows of a study show.

    Attributes:
        table: Markdown: our mean and standard deviation over seeds, beside the paper's number.
        orderings: The paper's findings, and whether they hold here.
        note: Markdown: what else a reader must know to compare.
    """

    table: str
    orderings: tuple[Ordering, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Study:
    """A study; its module has it as STUDY.

    Attributes:
        title: Title of the report.
        question: The question of the study, in a sentence or two.
        source: Section, figure or table of the paper.
        variants: Function of a scale to the points of its grid.
        measure: Function of a cell and its context to the cell's rows, without variant and seed.
        draw: Function of all rows, variants and seeds included, to the picture; it is called with
            the style of `figures` set. Rows of failed cells are missing.
        findings: Function of the same rows to the findings.
        repeated: Whether the grid is repeated with other seeds.
    """

    title: str
    question: str
    source: str
    variants: Callable[[ScaleName], Sequence[Variant]]
    measure: Callable[[Cell, Context], list[Row]]
    draw: Callable[[Sequence[Row]], Figure]
    findings: Callable[[Sequence[Row]], Findings]
    repeated: bool = True

    def cells(self, scale: ScaleName, seeds: int) -> list[Cell]:
        """Return the cells: all points with the first seed, then all with the next."""
        variants = self.variants(scale)
        repetitions = range(seeds if self.repeated else 1)
        return [Cell(variant, seed) for seed in repetitions for variant in variants]


def load_study(name: str) -> Study:
    """Return the study of a name in `STUDIES`."""
    study: Study = importlib.import_module(
        f"simclr_ext.studies.paper.{name.replace('-', '_')}"
    ).STUDY
    return study
