"""Compares the augmentation with lightly's: views per second on one core, in one run.

    python -m benchmarks.trainer.augment [--out results.csv] [--rounds 5]

Both make the paper's views of the same images. This package gets them as uint8 tensors in memory,
lightly's transform as PIL images, already decoded, as in a DataLoader's worker. One thread each.
Before anything is timed, the views of both must have the same statistics. Prints a table in
Markdown, and writes the rows to a CSV file.
"""

from __future__ import annotations

import argparse
import functools
import platform
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from lightly.transforms.simclr_transform import SimCLRViewTransform
from PIL import Image
from torch import Tensor

import simclr_ext
from benchmarks import write_rows
from simclr_ext.bench.measure import interleaved
from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.views.augment import Augment

CHECKED = 512  # views of each whose statistics are compared
LARGEST_GAP = 0.03  # of their mean and standard deviation; colors are in [0, 1]
Row = dict[str, object]


@dataclass(frozen=True)
class Case:
    """Images and views of one size.

    Attributes:
        name: The data set for which these are the paper's settings.
        height: Rows of the images.
        width: Columns of the images.
        size: Side of the views.
        batch: Images at a time.
        strength: Strength of the color jitter.
        blur: Probability of the blur.
    """

    name: str
    height: int
    width: int
    size: int
    batch: int
    strength: float
    blur: float

    def images(self) -> Tensor:
        """Return smooth random images, [batch, 3, height, width] uint8."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(self.batch, 3, 4, 4, generator=generator)
        smooth = F.interpolate(coarse, (self.height, self.width), mode="bicubic")
        return (255 * smooth).clamp(0, 255).byte()

    def ours(self) -> Augment:
        """Return this package's transformation."""
        config = AugmentConfig(
            flip_probability=0.5, jitter_strength=self.strength, blur_probability=self.blur
        )
        return Augment(config, self.size)

    def theirs(self) -> SimCLRViewTransform:
        """Return lightly's transformation with the same settings."""
        return SimCLRViewTransform(
            self.size, cj_strength=self.strength, gaussian_blur=self.blur, normalize=None
        )


CASES = (
    Case("CIFAR-10", 32, 32, 32, 512, 0.5, 0.0),
    Case("CIFAR-10 and blur", 32, 32, 32, 512, 0.5, 0.5),
    Case("STL-10", 96, 96, 96, 128, 0.5, 0.5),
    Case("ImageNet, from 256 x 256", 256, 256, 224, 32, 1.0, 0.5),
    Case("ImageNet, from 375 x 500", 375, 500, 224, 32, 1.0, 0.5),
)


def main() -> None:
    """Run everything, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each timing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"simclr-ext {simclr_ext.__version__}, lightly {version('lightly')}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"Python {platform.python_version()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"1 thread, {date.today()}"
    )
    rows = [row for case in CASES for row in time_case(case, args.rounds)]
    print_table(rows)
    if args.out is not None:
        write_rows(args.out, rows[0], rows)


def time_case(case: Case, rounds: int) -> list[Row]:
    """Time a batch of views of both."""
    images = case.images()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    generator = torch.Generator().manual_seed(0)
    ours = functools.partial(case.ours(), images, generator)
    transform = case.theirs()

    def theirs() -> Tensor:
        return torch.stack([transform(picture) for picture in pictures])

    np.random.seed(0)  # lightly's blur uses NumPy's generator
    torch.manual_seed(0)
    batches = -(-CHECKED // case.batch)
    check(*(torch.cat([make() for _ in range(batches)]) for make in (ours, theirs)))
    timings = interleaved({"simclr-ext": ours, "lightly": theirs}, rounds)
    fastest = timings["simclr-ext"].median
    return [
        {
            "case": case.name,
            "peer": name,
            "views_per_second": case.batch / t.median,
            "us": 1e6 * t.median / case.batch,
            "us_low": 1e6 * t.low / case.batch,
            "us_high": 1e6 * t.high / case.batch,
            "ratio": t.median / fastest,
        }
        for name, t in timings.items()
    ]


def check(ours: Tensor, theirs: Tensor) -> None:
    """Raise ValueError if the statistics of both's views [n, C, H, W] differ."""

    def statistics(views: Tensor) -> dict[str, Tensor]:
        return {
            "brightness": views.mean(),
            "deviation between views": views.mean(dim=(1, 2, 3)).std(),
            "deviation within views": views.std(dim=(2, 3)).mean(),
            "deviation between colors": views.std(dim=1).mean(),
        }

    expected = statistics(theirs)
    for name, value in statistics(ours).items():
        if not abs(value - expected[name]) < LARGEST_GAP:
            raise ValueError(
                f"{name} of the views: {value:.3f}, of lightly's: {expected[name]:.3f}"
            )


def print_table(rows: list[Row]) -> None:
    """Print the rows as Markdown."""
    print("\n| views per second and core | simclr-ext | lightly | |\n|---|---:|---:|---:|")
    for name in dict.fromkeys(row["case"] for row in rows):
        ours, theirs = (row for row in rows if row["case"] == name)
        print(
            f"| {name} | {ours['views_per_second']:,.0f} | {theirs['views_per_second']:,.0f} "
            f"| {theirs['ratio']:.1f}x |"
        )


if __name__ == "__main__":
    main()
