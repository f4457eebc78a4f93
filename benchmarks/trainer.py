"""Compares training with this package's views and loss to training with lightly's.

    python benchmarks/trainer.py FILE.npz --out results.csv [--seeds 3] [--set epochs=2 ...]

The `cpu-small` preset, once with this package's augmentation and loss, and once with lightly's
SimCLRTransform in a DataLoader that has a worker per core, and lightly's NTXentLoss; model,
optimiser, schedule, precision and everything else are the same code. The encoders, raw pixels and
the untrained encoder are evaluated by one protocol on all labels. Each line of the CSV file is one
system and seed: what is there is not measured again, so that the script can be cut off.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from simclr_ext.trainer import PRESETS, TrainConfig
from simclr_ext.trainer.data import ImageData, load_data
from simclr_ext.trainer.evaluate import Features, linear_probe, standardise
from simclr_ext.trainer.features import encode, pixels
from simclr_ext.trainer.knn import nearest_neighbours
from simclr_ext.trainer.pretrain import Training, pretrain
from simclr_ext.trainer.run import build_model
from simclr_ext.trainer.source import build_source

COLUMNS = ("system", "seed", "images_per_second", "linear", "knn")
Row = dict[str, str]


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Two of lightly's views of each image, from PIL images in memory."""

    def __init__(self, images: Tensor, config: TrainConfig) -> None:
        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        augment = config.augment
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
        first, second = self.transform(self.pictures[row])
        return first, second


class LightlySource:
    """Batches of lightly's views [N, 2, C, side, side], in the place of this package's source."""

    def __init__(self, images: Tensor, config: TrainConfig, workers: int) -> None:
        self.images, self.steps = len(images), len(images) // config.batch_size
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

    def views(self, batch: Tensor, seed: int) -> Tensor:
        """Return the views of a batch, [2N, C, side, side]."""
        return torch.cat(batch.unbind(dim=1))


def main() -> None:
    """Measure what is missing from the file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="an .npz file of colour images, see docs/trainer.md")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, new or to go on with")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each system")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of lightly's loader")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the preset")
    args = parser.parse_args()
    preset = PRESETS["cpu-small"].to_dict()
    for change in args.set:
        set_field(preset, *change.split("=", 1))
    preset = TrainConfig.from_dict({**preset, "data": args.data})
    data = load_data(args.data)
    if data.channels != 3:
        parser.error(
            f"data: lightly's transform takes colour images, and {args.data} has grey ones"
        )
    preset = preset.resolve(data.channels, *data.sides)
    rows = read_rows(args.out)
    done = {(row["system"], int(row["seed"])) for row in rows}
    for seed in range(args.seeds):
        config = dataclasses.replace(preset, seed=seed)
        for system in SYSTEMS:
            if (system, seed) not in done:
                row = measure(system, data, config, args.workers)
                append_row(args.out, row)
                rows.append(row)
    print(table(rows))


def set_field(plain: dict[str, object], field: str, value: str) -> None:
    """Set a field such as "optim.warmup_epochs" of a configuration's plain values."""
    *parents, name = field.split(".")
    for parent in parents:
        plain = plain[parent]  # type: ignore[assignment]
    plain[name] = yaml.safe_load(value)


def measure(system: str, data: ImageData, config: TrainConfig, workers: int) -> Row:
    """Train and evaluate one system with one seed."""
    represent, speed = SYSTEMS[system](data, config, workers)
    train, test = standardise(represent(data.train_images), represent(data.test_images))
    labels, expected = data.train_labels.numpy(), data.test_labels.numpy()
    return {
        "system": system,
        "seed": str(config.seed),
        "images_per_second": "" if speed is None else f"{speed:.1f}",
        "linear": f"{np.mean(linear_probe(train, labels, test) == expected):.4f}",
        "knn": f"{np.mean(nearest_neighbours(train, labels, test) == expected):.4f}",
    }


Represent = Callable[[Tensor], Features]


def raw_pixels(data: ImageData, config: TrainConfig, workers: int) -> tuple[Represent, None]:
    return pixels, None


def untrained(data: ImageData, config: TrainConfig, workers: int) -> tuple[Represent, None]:
    model = build_model(config, data.channels)
    return lambda images: encode(model.encoder, images, config.side), None


def ours(data: ImageData, config: TrainConfig, workers: int) -> tuple[Represent, float]:
    return train(data, config, None)


def lightly(data: ImageData, config: TrainConfig, workers: int) -> tuple[Represent, float]:
    return train(data, config, workers)


def train(
    data: ImageData, config: TrainConfig, lightly_workers: int | None
) -> tuple[Represent, float]:
    """Train; return the representation and the median over epochs of images per second."""
    training = Training.start(build_model(config, data.channels), config)
    if lightly_workers is None:
        source, loss = build_source(data, config), None
    else:
        source = LightlySource(data.pretrain_images, config, lightly_workers)
        loss = NTXentLoss(config.temperature)
    torch.manual_seed(config.seed)  # lightly's order and, through its workers, its views
    for _ in pretrain(training, source, config, loss):
        pass
    model = training.model
    speed = statistics.median(epoch.images_per_second for epoch in training.epochs)
    return lambda images: encode(model.encoder, images, config.side), speed


SYSTEMS = {
    "raw pixels": raw_pixels,
    "untrained encoder": untrained,
    "simclr-ext": ours,
    "lightly": lightly,
}


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file that may not be there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, row: Row) -> None:
    """Add a row to a file, which is made if need be."""
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def table(rows: list[Row]) -> str:
    """Return means and deviations over the seeds as Markdown."""
    lines = ["| | images/s | linear, % | k-NN, % |", "|---|---:|---:|---:|"]
    for system in SYSTEMS:
        own = [row for row in rows if row["system"] == system]
        if own:
            cells = [spread(own, "images_per_second", 1, "{:,.0f}")]
            cells += [spread(own, column, 100, "{:.1f}") for column in ("linear", "knn")]
            lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(rows: list[Row], column: str, factor: float, form: str) -> str:
    values = [factor * float(row[column]) for row in rows if row[column]]
    if not values:
        return ""
    mean = form.format(statistics.mean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
