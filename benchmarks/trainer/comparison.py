"""Compares training with this package's views and loss to training with lightly's.

    python -m benchmarks.trainer.comparison FILE.npz --out results.csv [--rounds 10] [--seeds 3]

The `cpu-small` preset, once with this package's augmentation and loss, and once with lightly's
SimCLRTransform in a DataLoader that has a worker per core, and lightly's NTXentLoss; model,
optimizer, schedule, precision and everything else are the same code.

Speed is measured first: both train in turn, an epoch each per round, so that a disturbance affects
both. Then each trains to the end with every seed, and the encoders, raw pixels and the untrained
encoder are evaluated by one protocol on all labels. Rows in the CSV file are not measured again,
so that an interrupted script resumes.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
import yaml
from lightly.loss import NTXentLoss
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from simclr_ext.trainer import PRESETS, TrainConfig
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset, load_data
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.probes.comparison import probe_accuracies
from simclr_ext.trainer.probes.features import encode, pixels
from simclr_ext.trainer.probes.linear import standardize
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.process import freed_memory_kept
from simclr_ext.trainer.training.state import Training
from simclr_ext.trainer.views.batches import Source, build_source

COLUMNS = ("system", "measured", "repetition", "value")
SPEED = "images per second"
Row = dict[str, str]


class Pictures(TorchDataset[tuple[Tensor, Tensor]]):
    """Two of lightly's views of each image, from PIL images in memory."""

    def __init__(self, images: Tensor, config: ResolvedConfig) -> None:
        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        augment = config.augment
        assert augment.flip_probability is not None  # resolved
        self.transform = SimCLRTransform(
            input_size=config.side,
            cj_prob=augment.jitter_probability,
            cj_strength=augment.jitter_strength,
            min_scale=augment.crop_area[0],
            random_gray_scale=augment.grayscale_probability,
            gaussian_blur=augment.blur_probability,
            sigmas=augment.blur_sigma,
            hf_prob=augment.flip_probability,
            normalize=None,
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        first, second = cast("list[Tensor]", self.transform(self.pictures[row]))
        return first, second


class LightlySource(Source):
    """Batches of lightly's views [N, 2, C, side, side], in the place of this package's source."""

    def __init__(self, images: Tensor, config: ResolvedConfig, workers: int) -> None:
        super().__init__(len(images), config, lambda views, _: views)  # they are views already
        self.loader = DataLoader(
            Pictures(images, config),
            config.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Tensor]:
        """Yield the batches of an epoch."""
        for first, second in self.loader:
            yield torch.stack([first, second], dim=1)


def main() -> None:
    """Measure what is missing from the file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="an .npz file of color images, see docs/trainer.md")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, new or to resume")
    parser.add_argument("--rounds", type=int, default=10, help="epochs in turn, for the speed")
    parser.add_argument("--seeds", type=int, default=3, help="whole runs of each system")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of lightly's loader")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the preset")
    args = parser.parse_args()
    plain = PRESETS["cpu-small"].to_dict()
    for change in args.set:
        set_field(plain, *change.split("=", 1))
    data = load_data(args.data)
    if data.channels != 3:
        parser.error(f"data: lightly's transform takes color images, and {args.data} has gray ones")
    if not isinstance(data.train.images, Tensor):
        parser.error(f"data: must be images in memory, an .npz file, got {args.data}")
    preset = TrainConfig.from_dict(plain | {"data": args.data}).resolve(data.channels, *data.sides)
    rows = read_rows(args.out)
    done = {(row["system"], row["repetition"]) for row in rows if row["measured"] != SPEED}
    with freed_memory_kept():
        if not any(row["measured"] == SPEED for row in rows):
            rows += append_rows(args.out, time_in_turn(data, preset, args.workers, args.rounds))
        for seed in range(args.seeds):
            config = dataclasses.replace(preset, seed=seed)
            for system in SYSTEMS:
                if (system, str(seed)) not in done:
                    rows += append_rows(args.out, evaluate(system, data, config, args.workers))
    print(table(rows))


def set_field(plain: dict[str, object], field: str, value: str) -> None:
    """Set a field such as "optim.warmup_epochs" in a configuration given as plain values."""
    *parents, name = field.split(".")
    for parent in parents:
        plain = plain[parent]  # type: ignore[assignment]
    plain[name] = yaml.safe_load(value)


def time_in_turn(data: Dataset, config: ResolvedConfig, workers: int, rounds: int) -> list[Row]:
    """Train both systems an epoch each per round; the first, with its warm-up, is not counted."""
    epochs = max(rounds + 1, math.ceil(config.warmup_epochs) + 1)
    config = dataclasses.replace(config, epochs=epochs)
    trainings = {system: start(system, data, config, workers) for system in TRAINED}
    rows = []
    for epoch in range(rounds + 1):
        for system, (training, steps) in trainings.items():
            while len(training.epochs) == epoch:
                next(steps)
            if epoch > 0:
                speed = f"{training.epochs[-1].images_per_second:.1f}"
                rows.append(row_of(system, SPEED, epoch, speed))
    return rows


def evaluate(system: str, data: Dataset, config: ResolvedConfig, workers: int) -> list[Row]:
    """Train and evaluate one system with one seed."""
    if system == "raw pixels":
        features = [pixels(images) for images in (data.train.images, data.test.images)]
    else:
        training, steps = start(system, data, config, workers)
        if system in TRAINED:
            for _ in steps:
                pass
        encoder = training.model.encoder
        features = [
            encode(encoder, images, config.side) for images in (data.train.images, data.test.images)
        ]
    train, test = standardize(*features)
    labels, expected = data.train.labels.numpy(), data.test.labels.numpy()
    found = probe_accuracies(train, labels, test, expected)
    return [
        row_of(system, probe, config.seed, f"{accuracy:.4f}")
        for probe, accuracy in zip(("linear", "k-NN"), found, strict=True)
    ]


def start(
    system: str, data: Dataset, config: ResolvedConfig, workers: int
) -> tuple[Training, Iterator[Training]]:
    """Return a system's training before its first step, and its steps."""
    training = Training.start(build_model(config), config)
    if system != "lightly":
        return training, pretrain(training, build_source(data, config), config)
    images = data.train.images
    assert isinstance(images, Tensor)  # as main() says
    source = LightlySource(images, config, workers)
    torch.manual_seed(config.seed)  # the loader's order and, through its workers, its views
    return training, pretrain(training, source, config, NTXentLoss(config.temperature))


TRAINED = ("simclr-ext", "lightly")
SYSTEMS = ("raw pixels", "untrained encoder", *TRAINED)


def row_of(system: str, measured: str, repetition: int, value: str) -> Row:
    return dict(zip(COLUMNS, (system, measured, str(repetition), value), strict=True))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file that may not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_rows(path: Path, rows: list[Row]) -> list[Row]:
    """Append rows to a file, created if it does not exist, and return them."""
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)
    return rows


def table(rows: list[Row]) -> str:
    """Return speeds with quartiles, and accuracies with deviations over the seeds, as Markdown."""
    lines = ["| | images/s | linear, % | k-NN, % |", "|---|---:|---:|---:|"]
    for system in SYSTEMS:
        speed = values_of(rows, system, SPEED)
        cells = [f"{statistics.median(speed):,.0f} ({quartiles(speed, ',.0f')})" if speed else ""]
        cells += [spread(values_of(rows, system, probe)) for probe in ("linear", "k-NN")]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    pairs = zip(*(values_of(rows, system, SPEED) for system in TRAINED), strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    median = f"{statistics.median(ratios):.2f} ({quartiles(ratios, '.2f')})"
    return "\n".join([*lines, "", f"simclr-ext / lightly, by round: {median} times the images/s"])


def values_of(rows: list[Row], system: str, measured: str) -> list[float]:
    return [
        float(row["value"])
        for row in rows
        if (row["system"], row["measured"]) == (system, measured)
    ]


def quartiles(values: list[float], form: str) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low:{form}} to {high:{form}}"


def spread(shares: list[float]) -> str:
    mean = f"{100 * statistics.mean(shares):.1f}"
    return f"{mean} ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else mean


if __name__ == "__main__":
    main()
