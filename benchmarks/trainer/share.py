"""The share of a training step that is not the network: images, views, and what waits for them.

    python -m benchmarks.trainer.share [--out benchmarks/results/share.csv] [--steps 20]

Two trainings of one recipe take steps in turn. One has the package's views; the other has the same
ones in every step, made beforehand. What the first takes longer is the share.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from torch import Tensor

from benchmarks import processor, write_rows
from benchmarks.trainer.data import CASES, Case, make_images, repeated
from simclr_ext.trainer.config import PRESETS, OptimConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.process import freed_memory_kept
from simclr_ext.trainer.training.state import Training
from simclr_ext.trainer.views.batches import Source, build_source

COLUMNS = ("recipe", "images", "step", "seconds", "seconds_without_views", "processor", "date")
Row = dict[str, str]


@dataclass(frozen=True)
class Recipe:
    """A recipe, and its images.

    Attributes:
        name: Its description.
        options: The run.
        case: The images.
    """

    name: str
    options: TrainConfig
    case: Case


def _recipe(name: str, options: TrainConfig, case: Case, batch: int, **changes: object) -> Recipe:
    steady = OptimConfig(warmup_epochs=0)
    changed = dataclasses.replace(options, batch_size=batch, optim=steady, **changes)  # type: ignore[arg-type]
    return Recipe(name, changed, case)


_JPEG, _, _ARRAYS = CASES
RECIPES = (
    _recipe("cpu-small", PRESETS["cpu-small"], _ARRAYS, 256),
    _recipe("cifar10-r18", PRESETS["cifar10-r18"], _ARRAYS, 64),
    _recipe(
        "ResNet-18, 224 x 224",
        dataclasses.replace(
            PRESETS["imagenet-r50"],
            model=dataclasses.replace(PRESETS["imagenet-r50"].model, encoder="resnet18"),
        ),
        _JPEG,
        16,
        workers=1,
    ),
)


class Fixed(Source):
    """A source with the views of one batch of another, again and again."""

    def __init__(self, source: Source, config: ResolvedConfig) -> None:
        super().__init__(source.images, config, lambda views, _: views)
        self._batch = next(iter(source.batches(0)))
        self._views = source.views(self._batch, seed=0)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Tensor]:
        """Yield the batch, as often as an epoch has batches."""
        for _ in range(skip, self.steps):
            yield self._batch

    def views(self, batch: Tensor, seed: int) -> Tensor:
        """Return the views."""
        return self._views


def main() -> None:
    """Measure every recipe, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--steps", type=int, default=20, help="steps of each training")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept():
        for recipe in RECIPES:
            rows += measure(recipe, make_images(recipe.case, Path(folder)), args.steps)
    print(table(rows))
    if args.out is not None:
        write_rows(args.out, COLUMNS, rows)


def measure(recipe: Recipe, images: tuple[str, ...] | Tensor, steps: int) -> list[Row]:
    """Take steps with and without the making of views in turn; a row for each pair."""
    case = recipe.case
    config = recipe.options.resolve(3, case.height, case.width)
    source = build_source(repeated(images, 20 * recipe.options.batch_size * (steps + 3)), config)
    trainings = [
        pretrain(Training.start(build_model(config), config), views, config)
        for views in (source, Fixed(source, config))
    ]
    rows = []
    for step in range(-2, steps):  # the first steps are warm-up
        seconds = []
        for training in trainings:
            start = time.perf_counter()
            next(training)
            seconds.append(f"{time.perf_counter() - start:.4f}")
        row = (recipe.name, case.name, str(step), *seconds, processor(), str(date.today()))
        if step >= 0:
            rows.append(dict(zip(COLUMNS, row, strict=True)))
            print(recipe.name, step, *seconds, flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Return the medians over the steps as Markdown."""
    lines = ["| step of | images | ms | of which not the network |", "|---|---|---:|---:|"]
    for recipe, images in dict.fromkeys((row["recipe"], row["images"]) for row in rows):
        pairs = [
            (float(row["seconds"]), float(row["seconds_without_views"]))
            for row in rows
            if row["recipe"] == recipe
        ]
        share = statistics.median(1 - fixed / whole for whole, fixed in pairs)
        step = statistics.median(whole for whole, _ in pairs)
        lines.append(f"| {recipe} | {images} | {1e3 * step:,.0f} | {share:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
