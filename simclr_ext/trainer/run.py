"""A whole run: data, training, evaluation, and everything about them in one folder."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
import yaml
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from simclr_ext import NTXentLoss
from simclr_ext.trainer import plots
from simclr_ext.trainer.augment import Augment
from simclr_ext.trainer.checkpoint import save_checkpoint
from simclr_ext.trainer.config import TrainConfig
from simclr_ext.trainer.data import ImageData, load_data
from simclr_ext.trainer.errors import DeviceError, RunFolderError
from simclr_ext.trainer.evaluate import Features, Scores, encode, evaluate, pixels
from simclr_ext.trainer.model import SimCLR
from simclr_ext.trainer.pretrain import Epoch, check_batch_size, pretrain
from simclr_ext.trainer.report import format_table, write_scores


@dataclass(frozen=True)
class TrainResult:
    """What a run produced.

    Attributes:
        folder: The run folder.
        config: The resolved configuration.
        model: The trained model, in evaluation mode.
        epochs: Measurements of every epoch.
        scores: Test accuracies of "raw pixels", "untrained encoder" and "trained encoder".
    """

    folder: Path
    config: TrainConfig
    model: SimCLR
    epochs: tuple[Epoch, ...]
    scores: dict[str, Scores]

    @property
    def table(self) -> str:
        """The scores as a table of text."""
        return format_table(self.scores)

    def __str__(self) -> str:
        """Return what the command line prints."""
        return f"{self.table}\n\nrun folder: {self.folder}"


def run(config: TrainConfig) -> TrainResult:
    """Train, evaluate and write the run folder; see `simclr_ext.trainer.train`."""
    folder = free_folder(config)  # first: a run must not end at a folder that is taken
    data = load_data(config.data)
    config = config.resolve(data.channels, *data.train_images.shape[2:])
    check_device(config.device)
    check_loss(config)
    check_batch_size(config.batch_size, len(data.train_images))
    make_folder(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    with _threads(config.threads), SummaryWriter(str(folder)) as board:
        draw_pairs(folder / "pairs.png", data, config)
        model = build_model(config, data.channels).to(config.device)
        epochs = []
        for epoch in pretrain(model, data.train_images.to(config.device), config):
            epochs.append(epoch)
            log_epoch(folder / "metrics.csv", board, epoch)
            save_checkpoint(folder / "checkpoint.pt", model, config, data.channels, epoch.epoch)
        plots.plot_loss(folder / "loss.png", epochs, config.batch_size)

        scores = compare(model, data, config)
        write_scores(folder / "evaluation.json", scores)
        log_scores(board, scores, epochs[-1].step)
        h = encode(model.encoder, data.test_images, config.side)
        labels, names = data.test_labels, data.class_names
        plots.plot_tsne(folder / "tsne.png", h, labels, names, config.seed)
    return TrainResult(folder, config, model.eval(), tuple(epochs), scores)


def free_folder(config: TrainConfig) -> Path:
    """Return the path of the run folder, which is new or empty.

    Raises:
        RunFolderError: Something is there already.
    """
    if config.out is None:
        now = datetime.now().strftime("%Y%m%d-%H%M%S")
        folder = Path("runs") / f"{Path(config.data).stem}-{now}"
    else:
        folder = Path(config.out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"out: {folder} is a file, not a folder")
    if folder.exists() and any(folder.iterdir()):
        raise RunFolderError(f"out: {folder} exists and is not empty; runs are never overwritten")
    return folder


def make_folder(folder: Path) -> None:
    """Create the run folder and its parents, or raise RunFolderError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"out: cannot create {folder}: {error.strerror}") from error


def check_device(device: str) -> None:
    """Raise DeviceError unless PyTorch can use the device here."""
    try:
        torch.empty(0, device=device)
    # AssertionError: how PyTorch says that it was built without CUDA.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"device {device!r} cannot be used: {reason}") from error


def check_loss(config: TrainConfig) -> None:
    """Compute a small loss: what cannot run here, or is compiled at first use, shows up now."""
    views = torch.eye(2, device=config.device)
    NTXentLoss(config.temperature)(views, views)


def build_model(config: TrainConfig, channels: int) -> SimCLR:
    """Return the untrained model of a run, on the CPU; the same one for the same seed."""
    with torch.random.fork_rng(devices=[]):  # leave the caller's random state alone
        torch.manual_seed(config.seed)
        return SimCLR(config.model, channels)


def compare(model: SimCLR, data: ImageData, config: TrainConfig) -> dict[str, Scores]:
    """Return the test accuracies of raw pixels, the untrained and the trained encoder."""
    untrained = build_model(config, data.channels).to(config.device)
    representations: dict[str, Callable[[Tensor], Features]] = {
        "raw pixels": pixels,
        "untrained encoder": lambda images: encode(untrained.encoder, images, config.side),
        "trained encoder": lambda images: encode(model.encoder, images, config.side),
    }
    return {
        name: evaluate(represent(data.train_images), represent(data.test_images), data, config.seed)
        for name, represent in tqdm(representations.items(), desc="evaluating")
    }


def draw_pairs(path: Path, data: ImageData, config: TrainConfig, count: int = 10) -> None:
    """Draw the first training images and two views of each."""
    augment = Augment(config.augment, config.side)
    generator = torch.Generator().manual_seed(config.seed)
    images = data.train_images[:count]
    plots.plot_pairs(path, images, augment(images, generator), augment(images, generator))


def log_epoch(path: Path, board: SummaryWriter, epoch: Epoch) -> None:
    """Append an epoch to the CSV file, with a header if it is new, and to TensorBoard."""
    row = dataclasses.asdict(epoch)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
    for name in ("loss", "learning_rate", "images_per_second"):
        board.add_scalar(f"train/{name}", row[name], epoch.step)


def log_scores(board: SummaryWriter, scores: Mapping[str, Scores], step: int) -> None:
    """Write mean test accuracies to TensorBoard."""
    for name, score in scores.items():
        for field in dataclasses.fields(score):
            mean = getattr(score, field.name).mean
            board.add_scalar(f"test/{field.name}/{name.replace(' ', '_')}", mean, step)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
