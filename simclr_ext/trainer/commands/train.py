"""A whole run: data, training, evaluation, and everything about them in one folder."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from simclr_ext.options.checks import check_device
from simclr_ext.options.errors import CheckpointError, TrainingInterrupted
from simclr_ext.options.threads import threads
from simclr_ext.trainer.config import ResolvedConfig, TrainConfig
from simclr_ext.trainer.data import Dataset, open_data
from simclr_ext.trainer.model.checkpoint import Checkpoint
from simclr_ext.trainer.model.simclr import SimCLR, build_model
from simclr_ext.trainer.probes.comparison import compare
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.scores import Scores
from simclr_ext.trainer.probes.tables import format_table, write_scores
from simclr_ext.trainer.probes.tsne import plot_tsne
from simclr_ext.trainer.seeds import Stream, derive_seed
from simclr_ext.trainer.training import plots
from simclr_ext.trainer.training.health import Knn, ProgressBar, TrainingWarning, complaints
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.preflight import check_loss, check_model
from simclr_ext.trainer.training.process import freed_memory_kept, stop_request
from simclr_ext.trainer.training.run_folder import RunFolder, log_epoch, log_scores
from simclr_ext.trainer.training.state import Epoch, Training
from simclr_ext.trainer.views.batches import Source, build_source


@dataclass(frozen=True)
class TrainResult:
    """What a run produced.

    Attributes:
        folder: The run folder.
        config: The resolved configuration.
        model: The trained model, in evaluation mode.
        epochs: Measurements of every epoch.
        scores: Test accuracies of "raw pixels", "untrained encoder" and "trained encoder"; empty if
            `config.evaluate` is false.
    """

    folder: Path
    config: ResolvedConfig
    model: SimCLR
    epochs: tuple[Epoch, ...]
    scores: dict[str, Scores]

    @property
    def table(self) -> str:
        """The scores as a table of text."""
        return format_table(self.scores)

    def __str__(self) -> str:
        """Return what the command line prints."""
        table = f"{self.table}\n\n" if self.scores else ""
        return f"{table}run folder: {self.folder}"


def run(options: TrainConfig) -> TrainResult:
    """Train, evaluate and write the run folder; see `simclr_ext.trainer.train`."""
    folder = RunFolder.choose(options)  # first: a run must not end at a folder that is taken
    with threads(options.threads) as count, freed_memory_kept():
        # What a repetition needs to be exact; and it must not ask for the folder of this run.
        config, data = _open(dataclasses.replace(options, out=None, threads=count))
        source = build_source(data, config)
        model = build_model(config).to(config.device)
        check_model(model, config)
        folder.create(config)
        return _train(folder, config, data, source, Training.start(model, config))


def resume(path: str | Path) -> TrainResult:
    """Go on with a run that was cut off; see `simclr_ext.trainer.resume`."""
    folder = RunFolder(Path(path))
    options, checkpoint = folder.load()
    with threads(options.threads), freed_memory_kept():
        config, data = _open(options)
        source = build_source(data, config)
        model = build_model(config) if checkpoint is None else checkpoint.model
        training = Training.start(model.to(config.device), config)
        if checkpoint is not None:
            _restore(training, checkpoint, folder, source)
        return _train(folder, config, data, source, training)


def _open(options: TrainConfig) -> tuple[ResolvedConfig, Dataset]:
    """Return a run's images, and its configuration resolved for them; both can be computed with."""
    data = open_data(options.data, options.data_root, options.download)
    config = options.resolve(data.channels, *data.sides)
    check_device(config.device)
    check_loss(config)
    return config, data.at(config.side, max(1, config.workers))


def _restore(training: Training, checkpoint: Checkpoint, folder: RunFolder, source: Source) -> None:
    state = checkpoint.training
    if state is None:
        raise CheckpointError(f"{folder.path}: checkpoint.pt has no state to go on from")
    if state["images"] != source.images:
        raise CheckpointError(
            f"{folder.path}: the run has {state['images']} training images, the data set now has "
            f"{source.images}"
        )
    training.load_state_dict(state)


def _train(
    folder: RunFolder,
    config: ResolvedConfig,
    data: Dataset,
    source: Source,
    training: Training,
) -> TrainResult:
    folder.write_metrics(training.epochs)  # without rows of epochs that are going to be repeated
    folder.remove_events()
    with SummaryWriter(str(folder.path)) as board:
        for epoch in training.epochs:
            log_epoch(board, epoch)
        draw_pairs(folder.path / "pairs.png", source, config)
        _pretrain(folder, config, data, source, training, board)
        plots.plot_loss(folder.path / "loss.png", training.epochs, config.batch_size)
        scores = {}
        if config.evaluate:
            scores = compare(training.model, data, config)
            write_scores(folder.path / "evaluation.json", scores)
            log_scores(board, scores, training.step)
            h = encode(training.model.encoder, data.test_images, config.side)
            labels, names = data.test_labels, data.class_names
            plot_tsne(folder.path / "tsne.png", h, labels, names, config.seed)
    return TrainResult(folder.path, config, training.model.eval(), tuple(training.epochs), scores)


def _pretrain(
    folder: RunFolder,
    config: ResolvedConfig,
    data: Dataset,
    source: Source,
    training: Training,
    board: SummaryWriter,
) -> None:
    """Train, and after every step see to what is due: measurements, checkpoints, signals."""
    monitor = config.monitor
    knn = Knn(data, config) if monitor.knn_every > 0 else None
    bar = ProgressBar(config, config.epochs * source.steps, training.step)
    with bar, stop_request() as stop:
        for _ in pretrain(training, source, config):
            bar.advance(training)
            done, epoch_ended = len(training.epochs), training.step % source.steps == 0
            last = epoch_ended and done == config.epochs
            if epoch_ended:
                if knn is not None and (done % monitor.knn_every == 0 or last):
                    training.measure_knn(knn(training.model))
                    if training.is_best():
                        folder.keep("best.pt", training, config)
                log_epoch(board, training.epochs[-1])
                folder.write_metrics(training.epochs)
                _warn(training.epochs, config)
                if monitor.keep_epochs is not None and done % monitor.keep_epochs == 0:
                    folder.keep(f"epoch-{done:04}.pt", training, config)
            due = epoch_ended and (last or done % monitor.checkpoint_epochs == 0)
            if monitor.checkpoint_steps is not None:
                due = due or training.step % monitor.checkpoint_steps == 0
            if due or stop.signal is not None:
                folder.save(training, config, source.images)
            if stop.signal is not None:
                raise TrainingInterrupted(
                    f"saved after step {training.step}; to go on: simclr-ext train --resume "
                    f"{folder.path}",
                    stop.signal,
                )


def _warn(epochs: list[Epoch], config: ResolvedConfig) -> None:
    """Warn of what is wrong since this epoch; during the warmup, the loss may be at chance."""
    if len(epochs) <= max(1, config.optim.warmup_epochs):
        return
    before = {} if len(epochs) == 2 else complaints(epochs[-2], config.batch_size)
    for name, sentence in complaints(epochs[-1], config.batch_size).items():
        if name not in before:
            text = f"epoch {epochs[-1].epoch}: {sentence}"
            warnings.warn(text, TrainingWarning, stacklevel=2)


def draw_pairs(path: Path, source: Source, config: ResolvedConfig, count: int = 10) -> None:
    """Draw images of the first batch, and two views of each."""
    batch = next(iter(source.batches(0)))[:count]
    views = source.views(batch, derive_seed(config.seed, Stream.VIEWS))
    plots.plot_pairs(path, batch[:, 0], *views.chunk(2))
