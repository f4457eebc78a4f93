"""`simclr-ext train`: a whole run, from data to evaluation, with its results in one folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from simclr_ext.options.checks import check_device
from simclr_ext.options.errors import (
    ConfigError,
    DataError,
    JobError,
    PeerError,
    StorageError,
    WorkerError,
)
from simclr_ext.options.threads import threads
from simclr_ext.trainer.commands.restore import restore
from simclr_ext.trainer.config import ResolvedConfig, TrainConfig
from simclr_ext.trainer.data import CUSTOM, Dataset, Part, absolute_data, open_data
from simclr_ext.trainer.data.verify import check_readable
from simclr_ext.trainer.job import Job, joined, lost_processes
from simclr_ext.trainer.model.checkpoint import Checkpoint
from simclr_ext.trainer.model.initial import initial_model, initialize
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.model.weights import absolute
from simclr_ext.trainer.probes.comparison import compare
from simclr_ext.trainer.probes.scores import Scores
from simclr_ext.trainer.progress import say
from simclr_ext.trainer.torchrun import RunMemory
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.loggers import build_loggers
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.preflight import (
    check_loss,
    check_model,
    check_same,
    check_share,
)
from simclr_ext.trainer.training.process import freed_memory_kept, stop_request
from simclr_ext.trainer.training.recorder import Recorder
from simclr_ext.trainer.training.reschedule import reschedule
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.run_folder import RunFolder
from simclr_ext.trainer.training.state import Epoch, Training
from simclr_ext.trainer.views.batches import Source, build_source, lost_workers
from simclr_ext.trainer.views.custom import MakeViews


def run_train(
    options: TrainConfig,
    callbacks: Sequence[Callback],
    encoder: nn.Module | None = None,
    augment: MakeViews | None = None,
    data: object = None,
) -> TrainResult:
    """Train, evaluate and write the run folder; see `simclr_ext.trainer.train`."""
    with joined() as job:
        memory = RunMemory()
        if (before := job.on_first(memory.folder)) is not None:
            say(f"restarted by torchrun: {before} is resumed")
            return _resume(job, before, {}, None, callbacks, encoder, augment, data)
        return _start(job, memory, options, callbacks, encoder, augment, data)


def _start(
    job: Job,
    memory: RunMemory,
    options: TrainConfig,
    callbacks: Sequence[Callback],
    encoder: nn.Module | None,
    augment: MakeViews | None,
    data: object,
) -> TrainResult:
    options = _with_own(options, encoder, augment, data)
    # First, so that a folder in use is refused at once.
    folder = job.on_first(lambda: RunFolder.choose(options))
    job.use(options.device)
    if options.download:  # not by all processes at once
        job.on_first(lambda: bool(_open(options, data)))
    with ExitStack() as held:
        with job.agreement():
            callbacks = _with_loggers(job, options, callbacks)
            count = held.enter_context(threads(options.threads))
            held.enter_context(freed_memory_kept())
            # The file must repeat the run exactly, but not in this run's folder.
            init = options.init and absolute(options.init)
            options = dataclasses.replace(options, out=None, init=init, threads=count)
            config, images = _open(options, data)
            check_share(config, job)
            source = build_source(images, config, augment, job)
            model = build_model(config, encoder)
            if config.init is not None:
                say(str(initialize(model, config)))
        check_same(config, images, job)
        job.copy_weights(model)
        with job.agreement():
            model.to(config.device)
            check_model(model, config)
            training = Training.start(model, config)

        def create() -> RunFolder:
            held.enter_context(folder.created())
            folder.save(training, config, images.train)
            memory.keep(folder.path)
            return folder

        folder = job.on_first(create)
        return _train(job, folder, config, images, source, training, callbacks, encoder)


def run_resume(
    path: str | Path,
    changes: Mapping[str, Any],
    rewarm: float | None,
    callbacks: Sequence[Callback],
    encoder: nn.Module | None = None,
    augment: MakeViews | None = None,
    data: object = None,
) -> TrainResult:
    """Resume an interrupted run; see `simclr_ext.trainer.resume`.

    Args:
        path: The run folder.
        changes: New values of options in `CHANGEABLE`, without the names of their groups.
        rewarm: As for `simclr_ext.trainer.resume`.
        callbacks: As for `simclr_ext.trainer.resume`.
        encoder: As for `simclr_ext.trainer.resume`.
        augment: As for `simclr_ext.trainer.resume`.
        data: As for `simclr_ext.trainer.resume`.
    """
    with joined() as job:
        return _resume(job, path, changes, rewarm, callbacks, encoder, augment, data)


def _resume(
    job: Job,
    path: str | Path,
    changes: Mapping[str, Any],
    rewarm: float | None,
    callbacks: Sequence[Callback],
    encoder: nn.Module | None,
    augment: MakeViews | None,
    data: object,
) -> TrainResult:
    folder = RunFolder(Path(path).expanduser())
    with ExitStack() as held:
        checkpoint = _opened(job, folder, encoder, held)
        with job.agreement():
            options = _changed(checkpoint.config, changes)
            callbacks = _with_loggers(job, options, callbacks)
            count = held.enter_context(threads(options.threads))
            held.enter_context(freed_memory_kept())
        job.use(options.device)
        with job.agreement():
            config, images = _open(dataclasses.replace(options, threads=count), data)
            check_share(config, job)
            source = build_source(images, config, augment, job)
            training = Training.start(checkpoint.model.to(config.device), config)
            restore(training, checkpoint, folder, source, images.train, config)
            before = training.rewarm
            training.rewarm = reschedule(training, checkpoint.config, config, source.steps, rewarm)
        check_same(config, images, job)

        def change() -> None:
            if config != checkpoint.config or training.rewarm != before:
                folder.outdate()  # first: a resume compares config.yaml with the checkpoint
                folder.save(training, config, images.train)

        job.on_first(change)
        return _train(job, folder, config, images, source, training, callbacks, encoder)


def _opened(job: Job, folder: RunFolder, encoder: nn.Module | None, held: ExitStack) -> Checkpoint:
    """Return the last checkpoint on all processes; the first one alone reads the run folder."""
    read: list[Checkpoint] = []

    def open_folder() -> tuple[ResolvedConfig, int, dict[str, Any] | None]:
        read.append(held.enter_context(folder.opened(encoder)))
        return read[0].config, read[0].epoch, read[0].training

    config, epoch, training = job.on_first(open_folder)
    with job.agreement():
        model = read[0].model if read else build_model(config, encoder).eval()
    job.copy_weights(model)
    return Checkpoint(model, config, epoch, training)


def _with_loggers(
    job: Job, options: TrainConfig, callbacks: Sequence[Callback]
) -> Sequence[Callback]:
    """Return the loggers and the callbacks; none but on the first process."""
    return [*build_loggers(options.monitor.loggers), *callbacks] if job.is_first else ()


def _with_own(
    options: TrainConfig, encoder: nn.Module | None, augment: MakeViews | None, data: object
) -> TrainConfig:
    """Return the options of a run with an encoder, an augmentation or images from Python."""
    if data is not None:
        options = dataclasses.replace(options, data=CUSTOM)
    model, views = options.model, options.augment
    if encoder is not None:
        model = dataclasses.replace(model, encoder="custom")
    if augment is not None:
        views = dataclasses.replace(views, custom=True)
    return dataclasses.replace(options, model=model, augment=views)


def _changed(config: ResolvedConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """Return a run's options with some changed.

    The warmup does not change, although its default depends on the epochs: most runs have finished
    it when they are resumed, and in the others the rate must not jump within it.

    Raises:
        ConfigError: A value is not allowed, or the warmup does not fit into fewer epochs.
    """
    epochs, warmup = changes.get("epochs"), config.warmup_epochs
    if isinstance(epochs, int) and 0 < epochs <= warmup:
        raise ConfigError(
            f"epochs must be above {warmup:g}, the warmup epochs with which the run began, got "
            f"{epochs}"
        )
    changes = dict(changes)
    if "on_broken" in changes:
        on_broken = changes.pop("on_broken")
        changes["images"] = dataclasses.replace(config.images, on_broken=on_broken)
    return dataclasses.replace(config.options, **changes)


def _open(options: TrainConfig, given: object) -> tuple[ResolvedConfig, Dataset]:
    """Return a run's images, and its configuration resolved for them and checked on the device."""
    workers = max(1, options.workers)
    root, name = absolute_data(options.data_root), absolute_data(options.data)
    options = dataclasses.replace(options, data=name, data_root=root)
    data = open_data(name, root, options.download, options.images, workers, given)
    config = options.resolve(data.channels, *data.sides)
    check_device(config.device)
    check_loss(config.temperature, config.device)
    data = data.at(config.side, workers)
    if options.images.on_broken == "stop":  # otherwise every image has been read
        check_readable(data.test.images, workers)
    return config, data


def _train(
    job: Job,
    folder: RunFolder,
    config: ResolvedConfig,
    data: Dataset,
    source: Source,
    training: Training,
    callbacks: Sequence[Callback],
    encoder: nn.Module | None,
) -> TrainResult:
    say(data.summary)
    recorder = Recorder(folder, config, data, source, callbacks, job)

    def evaluate() -> tuple[tuple[Epoch, ...], dict[str, Scores]]:
        recorder.after_training(training)
        initial = functools.partial(initial_model, config, folder.path, encoder)
        scores = {}
        if config.evaluate and data.has_labels:
            scores = compare(training.model, initial, data.labeled, config)
        result = recorder.after_evaluation(training, scores)
        if config.evaluate:
            recorder.draw_map(training)
        return result.epochs, result.scores

    with _resumable(folder), closing(recorder):
        with (
            stop_request(patient=job.size > 1) as stop,
            _saved_if_broken(job, folder, training, config, data.train),
        ):
            job.on_first(lambda: folder.complete(training, config, data))
            job.on_first(lambda: recorder.start(training))
            for _ in pretrain(training, source, config, job=job):
                recorder.after_step(training, stop)
        epochs, scores = job.on_first(evaluate)
    return TrainResult(folder.path, config, training.model.eval(), epochs, scores)


@contextmanager
def _saved_if_broken(
    job: Job, folder: RunFolder, training: Training, config: ResolvedConfig, images: Part
) -> Iterator[None]:
    """Save the state if an image is broken, and say how to resume."""
    try:
        yield
    except (DataError, PeerError) as error:
        if isinstance(error, PeerError) and not issubclass(error.kind, DataError):
            raise
        job.on_first(lambda: folder.save(training, config, images))
        if isinstance(error, PeerError):
            raise
        raise DataError(
            f"{error}; saved after step {training.step}: repair the file, or leave out broken ones "
            f"by --images.on_broken skip; then resume: simclr-ext train --resume {folder.path}"
        ) from error


@contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    """Add the command that resumes the run to an error of the disk, a worker or another process."""
    try:
        with lost_workers(), lost_processes():
            yield
    except PeerError:
        raise
    except (JobError, StorageError, WorkerError) as error:
        again = f"simclr-ext train --resume {folder.path}"
        raise type(error)(f"{error}; then resume: {again}") from error
