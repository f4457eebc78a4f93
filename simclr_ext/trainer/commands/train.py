"""`simclr-ext train`: a whole run, from data to evaluation, with its results in one folder."""

from __future__ import annotations

import dataclasses
import functools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from simclr_ext.options.checks import check_device
from simclr_ext.options.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    StorageError,
    WorkerError,
)
from simclr_ext.options.threads import threads
from simclr_ext.trainer.config import ResolvedConfig, TrainConfig
from simclr_ext.trainer.data import CUSTOM, Dataset, absolute_data, open_data
from simclr_ext.trainer.data.verify import check_readable
from simclr_ext.trainer.model.checkpoint import Checkpoint
from simclr_ext.trainer.model.initial import initial_model, initialize
from simclr_ext.trainer.model.simclr import build_model
from simclr_ext.trainer.model.weights import absolute
from simclr_ext.trainer.probes.comparison import compare
from simclr_ext.trainer.progress import say
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.loggers import build_loggers
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.preflight import check_loss, check_model
from simclr_ext.trainer.training.process import freed_memory_kept, stop_request
from simclr_ext.trainer.training.recorder import Recorder
from simclr_ext.trainer.training.reschedule import reschedule
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.run_folder import RunFolder
from simclr_ext.trainer.training.state import Training
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
    options = _with_own(options, encoder, augment, data)
    callbacks = [*build_loggers(options.monitor.loggers), *callbacks]
    folder = RunFolder.choose(options)  # first, so that a folder in use is refused at once
    with threads(options.threads) as count, freed_memory_kept():
        # The file must repeat the run exactly, but not in this run's folder.
        init = options.init and absolute(options.init)
        options = dataclasses.replace(options, out=None, init=init, threads=count)
        config, images = _open(options, data)
        source = build_source(images, config, augment)
        model = build_model(config, encoder)
        if config.init is not None:
            say(str(initialize(model, config)))
        model.to(config.device)
        check_model(model, config)
        training = Training.start(model, config)
        with folder.created():
            folder.start(training, config, source.images)
            folder.write_images(images)
            return _train(folder, config, images, source, training, callbacks, encoder)


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
    folder = RunFolder(Path(path).expanduser())
    with folder.opened(encoder) as checkpoint:
        options = _changed(checkpoint.config, changes)
        callbacks = [*build_loggers(options.monitor.loggers), *callbacks]
        with threads(options.threads) as count, freed_memory_kept():
            config, images = _open(dataclasses.replace(options, threads=count), data)
            source = build_source(images, config, augment)
            training = Training.start(checkpoint.model.to(config.device), config)
            _restore(training, checkpoint, folder, source, config)
            before = training.rewarm
            training.rewarm = reschedule(training, checkpoint.config, config, source.steps, rewarm)
            changed = config != checkpoint.config or training.rewarm != before
            if changed:  # the checkpoint first: a resume reads it alone
                folder.save(training, config, source.images)
                folder.write_config(config)
                folder.write_images(images)
            return _train(folder, config, images, source, training, callbacks, encoder)


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


def _restore(
    training: Training,
    checkpoint: Checkpoint,
    folder: RunFolder,
    source: Source,
    config: ResolvedConfig,
) -> None:
    state, before = checkpoint.training, checkpoint.config
    if state is None:
        raise CheckpointError(f"{folder.path}: checkpoint.pt has no state to resume from")
    images = state.get("images")
    if config.images.on_broken == "skip" and isinstance(images, int):
        # Without broken images the order is another one, but not the number of steps.
        same = images // config.batch_size == source.steps
    else:
        same = images == source.images
    if not same:
        raise CheckpointError(
            f"{folder.path}: the run has {images} training images, the data set now has "
            f"{source.images}"
        )
    if config.channels != before.channels:
        raise CheckpointError(
            f"{folder.path}: the run's images have {before.channels} channels, the data set now "
            f"has {config.channels}"
        )
    try:
        training.load_state_dict(state)
        if training.step < 0 or len(training.epochs) != training.step // source.steps:
            raise ValueError(f"step {training.step} and {len(training.epochs)} epochs")
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise CheckpointError(
            f"{folder.path}: the state in checkpoint.pt does not fit the run ({reason})"
        ) from error
    if training.step > config.epochs * source.steps:
        raise ConfigError(
            f"epochs must be at least {-(-training.step // source.steps)}, the epoch that the run "
            f"has reached, got {config.epochs}"
        )


def _train(
    folder: RunFolder,
    config: ResolvedConfig,
    data: Dataset,
    source: Source,
    training: Training,
    callbacks: Sequence[Callback],
    encoder: nn.Module | None,
) -> TrainResult:
    say(data.summary)
    with _resumable(folder), closing(Recorder(folder, config, data, source, callbacks)) as recorder:
        recorder.start(training)
        with stop_request() as stop, _saved_if_broken(folder, training, config, source):
            for _ in pretrain(training, source, config):
                recorder.after_step(training, stop)
        recorder.after_training(training)
        initial = functools.partial(initial_model, config, folder.path, encoder)
        scores = {}
        if config.evaluate and data.has_labels:
            scores = compare(training.model, initial, data.labeled, config)
        result = recorder.after_evaluation(training, scores)
        if config.evaluate:
            recorder.draw_map(training)
    return result


@contextmanager
def _saved_if_broken(
    folder: RunFolder, training: Training, config: ResolvedConfig, source: Source
) -> Iterator[None]:
    """Save the state if an image is broken, and say how to resume."""
    try:
        yield
    except DataError as error:
        folder.save(training, config, source.images)
        raise DataError(
            f"{error}; saved after step {training.step}: repair the file, or leave out broken ones "
            f"by --images.on_broken skip; then resume: simclr-ext train --resume {folder.path}"
        ) from error


@contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    """Add the command that resumes the run to an error of the disk or of a worker."""
    try:
        with lost_workers():
            yield
    except (StorageError, WorkerError) as error:
        again = f"simclr-ext train --resume {folder.path}"
        raise type(error)(f"{error}; then resume: {again}") from error
