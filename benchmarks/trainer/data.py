"""Compares the way of images into training with torchvision's and lightly's.

    python -m benchmarks.trainer.data [--out benchmarks/results/data.csv] [--rounds 7]

From files, or from arrays in memory, to views on the device: decoding, two crops of one decoding,
flips, color jitter, gray, blur. This package decodes and crops in worker processes, and does the
rest for whole batches in the main one; the transforms v2 of torchvision and SimCLR's of lightly do
everything image by image, on PIL images, in the workers. Before anything is timed, the views of all
must have the same statistics. All take turns in every round; beside images per second, the
processors' time per image is measured, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks import processor, write_rows
from benchmarks.trainer.photographs import photograph, write_photographs
from simclr_ext.trainer.config import AugmentConfig, ResolvedConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, LazyImages, Part
from simclr_ext.trainer.data.files import FileReader
from simclr_ext.trainer.training.process import freed_memory_kept
from simclr_ext.trainer.views.batches import build_source

COLUMNS = ("case", "workers", "system", "round", "images_per_second", "cpu_ms", "processor", "date")
OURS, TORCHVISION, LIGHTLY = SYSTEMS = ("simclr-ext", "torchvision", "lightly")
ENDLESS = 10**6  # images of an epoch: the same ones, again and again
Row = dict[str, str]


@dataclass(frozen=True)
class Case:
    """Images and views.

    Attributes:
        name: Their description.
        width: Columns of the images.
        height: Rows of the images.
        files: Number of JPEG files; 0: 512 arrays in memory.
        side: Side of the views.
        batch: Images of a batch.
        turn: Batches of a turn.
        strength: Strength of the color jitter.
        blur: Probability of the blur.
    """

    name: str
    width: int
    height: int
    files: int
    side: int
    batch: int
    turn: int
    strength: float
    blur: float


CASES = (
    Case("JPEG, 500 x 375", 500, 375, 64, 224, 16, 4, strength=1.0, blur=0.5),
    Case("JPEG, 4000 x 3000", 4000, 3000, 6, 224, 4, 4, strength=1.0, blur=0.5),
    Case("arrays, 32 x 32", 32, 32, 0, 32, 512, 6, strength=0.5, blur=0.0),
)


class Pairs(TorchDataset[Tensor]):
    """Two views of each image, [2, 3, side, side] in [0, 1], by one transform of PIL images."""

    def __init__(self, images: list[str] | list[Image.Image], transform: Callable[..., Tensor]):
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index % len(self.images)]
        if isinstance(image, str):
            with Image.open(image) as file:
                image = file.convert("RGB")
        return torch.stack([self.transform(image) for _ in range(2)])


def torchvision_transform(case: Case) -> Callable[..., Tensor]:
    """Return the paper's augmentation in transforms of torchvision, for PIL images."""
    from torchvision.transforms import v2

    s = case.strength
    jitter = v2.ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)
    kernel = case.side // 10 | 1  # 10 % of the side, odd
    steps: list[nn.Module] = [
        v2.RandomResizedCrop(case.side, scale=(0.08, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([jitter], 0.8),
        v2.RandomGrayscale(0.2),
    ]
    if case.blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel, (0.1, 2.0))], case.blur))
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    transform: Callable[..., Tensor] = v2.Compose(steps)
    return transform


def lightly_transform(case: Case) -> Callable[..., Tensor]:
    """Return lightly's SimCLR transform with the same settings."""
    from lightly.transforms.simclr_transform import SimCLRViewTransform

    transform: Callable[..., Tensor] = SimCLRViewTransform(
        case.side, cj_strength=case.strength, gaussian_blur=case.blur, normalize=None
    )
    return transform


def stream(
    system: str, case: Case, images: tuple[str, ...] | Tensor, workers: int, device: str
) -> Iterator[Tensor]:
    """Yield views [2N, 3, side, side] on the device, without an end."""
    if system == OURS:
        yield from _own(case, images, workers, device)
        return
    transform = {TORCHVISION: torchvision_transform, LIGHTLY: lightly_transform}[system](case)
    inputs = (
        [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        if isinstance(images, Tensor)
        else list(images)
    )
    loader = DataLoader(Pairs(inputs, transform), case.batch, num_workers=workers)
    for batch in loader:
        yield batch.to(device).transpose(0, 1).flatten(0, 1)


def _own(
    case: Case, images: tuple[str, ...] | Tensor, workers: int, device: str
) -> Iterator[Tensor]:
    source = build_source(repeated(images, ENDLESS), _config(case, workers, device))
    for step, batch in enumerate(itertools.chain.from_iterable(map(source.batches, range(10**9)))):
        yield source.views(batch, seed=step)


def repeated(images: tuple[str, ...] | Tensor, count: int) -> Dataset:
    """Return a data set of about so many images, in files or, a twentieth of them, in memory."""
    if isinstance(images, Tensor):
        part = Part.of(images.repeat(max(1, count // 20 // len(images)), 1, 1, 1))
    else:
        reader = FileReader("", np.array(list(map(os.fsencode, images)), np.bytes_))
        part = Part.of(LazyImages(reader, np.arange(count) % len(images)))
    return Dataset("images", part, part, ())


def _config(case: Case, workers: int, device: str) -> ResolvedConfig:
    augment = AugmentConfig(
        flip_probability=0.5, jitter_strength=case.strength, blur_probability=case.blur
    )
    options = TrainConfig(
        batch_size=case.batch, image_size=case.side, workers=workers, device=device, augment=augment
    )
    return options.resolve(3, case.height, case.width)


def main() -> None:
    """Measure everything, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="worker processes")
    parser.add_argument("--device", default="cpu", help="device of the views")
    parser.add_argument("--cases", type=int, nargs="+", default=[0, 1, 2], help="numbers of cases")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept():
        for case in (CASES[number] for number in args.cases):
            images = make_images(case, Path(folder))
            for workers in args.workers:
                # A core for each worker: threads that wait for one another waste what they share.
                torch.set_num_threads(max(1, (os.cpu_count() or 1) - workers))
                rows += measure(case, images, workers, args.device, args.rounds)
    print(table(rows))
    if args.out is not None:
        write_rows(args.out, COLUMNS, rows)


def make_images(case: Case, folder: Path) -> tuple[str, ...] | Tensor:
    """Return the paths of the case's files, or its arrays, [512, 3, H, W] uint8."""
    if case.files:
        return write_photographs(folder, case.files, case.width, case.height)
    pixels = [np.asarray(photograph(case.width, case.height, seed)) for seed in range(512)]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def measure(
    case: Case, images: tuple[str, ...] | Tensor, workers: int, device: str, rounds: int
) -> list[Row]:
    """Let all systems take turns; a row for each turn."""
    torch.manual_seed(0)
    np.random.seed(0)
    streams = {system: stream(system, case, images, workers, device) for system in SYSTEMS}
    _check(case, streams)
    rows = []
    for turn in range(rounds):
        order = SYSTEMS[turn % 3 :] + SYSTEMS[: turn % 3]
        for system in order:
            speed, cpu = take_turn(streams[system], case, workers)
            values = (case.name, workers, system, turn, f"{speed:.1f}", f"{1e3 * cpu:.3f}")
            row = (*map(str, values), processor(), str(date.today()))
            rows.append(dict(zip(COLUMNS, row, strict=True)))
            print(*values, flush=True)
    for views in streams.values():
        views.close()  # type: ignore[attr-defined]  # a generator: its workers end
    return rows


def _check(case: Case, streams: dict[str, Iterator[Tensor]]) -> None:
    """Raise ValueError if the statistics of the systems' views differ."""
    from benchmarks.trainer.augment import check

    batches = -(-128 // case.batch)
    views = {
        system: torch.cat([next(batch) for _ in range(batches)]).cpu()
        for system, batch in streams.items()
    }
    for system in (TORCHVISION, LIGHTLY):
        check(views[OURS], views[system])


def take_turn(views: Iterator[Tensor], case: Case, workers: int) -> tuple[float, float]:
    """Return images per second, and the processors' seconds per image."""
    for _ in range(2 * workers + 1):  # made in advance, while others had their turns
        next(views)
    start, before = time.perf_counter(), cpu_seconds()
    for _ in range(case.turn):
        next(views)
    count = case.turn * case.batch
    return count / (time.perf_counter() - start), (cpu_seconds() - before) / count


def cpu_seconds() -> float:
    """Return the processors' time of this process and of its living workers."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(rows: list[Row]) -> str:
    """Return medians over the rounds, and medians of the ratios by round, as Markdown."""
    lines = [
        f"| images/s (processor ms per image) | workers | {' | '.join(SYSTEMS)} "
        "| to torchvision | to lightly |",
        "|---|---:|" + "---:|" * 5,
    ]
    for case, workers in dict.fromkeys((row["case"], row["workers"]) for row in rows):
        found = {
            system: [
                (float(row["images_per_second"]), float(row["cpu_ms"]))
                for row in rows
                if (row["case"], row["workers"], row["system"]) == (case, workers, system)
            ]
            for system in SYSTEMS
        }
        cells = []
        for system in SYSTEMS:
            speed, cpu = (statistics.median(values) for values in zip(*found[system], strict=True))
            cells.append(f"{speed:,.0f} ({cpu:.3g})")
        for system in (TORCHVISION, LIGHTLY):
            pairs = list(zip(found[OURS], found[system], strict=True))
            speed = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
            cpu = statistics.median(theirs[1] / ours[1] for ours, theirs in pairs)
            cells.append(f"{speed:.1f}x ({cpu:.1f}x)")
        lines.append(f"| {case} | {workers} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
