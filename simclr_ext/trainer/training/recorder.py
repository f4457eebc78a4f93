"""What a run does between its steps: it measures, saves, draws, and tells the callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from simclr_ext.options.errors import TrainingInterrupted
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.job import Job
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.optional import left_out
from simclr_ext.trainer.probes.scores import Scores
from simclr_ext.trainer.probes.tables import write_scores
from simclr_ext.trainer.probes.tsne import TSNE_POINTS, plot_tsne
from simclr_ext.trainer.seeds import Stream, derive_seed
from simclr_ext.trainer.training.callbacks import Callback
from simclr_ext.trainer.training.health import warn_of_new_problems
from simclr_ext.trainer.training.held_out import HeldOut
from simclr_ext.trainer.training.plots import plot_loss, plot_pairs
from simclr_ext.trainer.training.process import StopRequest
from simclr_ext.trainer.training.progress import training_progress
from simclr_ext.trainer.training.result import TrainResult
from simclr_ext.trainer.training.run_folder import RunFolder
from simclr_ext.trainer.training.state import Training
from simclr_ext.trainer.views.batches import Source

_PAIRS = 10  # pairs of views that are drawn


class Recorder:
    """Measures and saves what is due after a step, draws the pictures, shows the progress.

    With several processes, all call `after_step` and `close`, and the first one the others.

    Args:
        folder: The run folder, which exists.
        config: The run; its `monitor` sets what is due and when.
        data: The images, for the accuracy on held-out ones and the map.
        source: Batches and views of the run.
        callbacks: Called in this order; the loggers are among them.
        job: The processes of the run; None: this one alone.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: ResolvedConfig,
        data: Dataset,
        source: Source,
        callbacks: Sequence[Callback] = (),
        job: Job | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._job = job or Job()
        self._folder, self._config, self._data, self._source = folder, config, data, source
        self._held_out: HeldOut | None = None
        self._started = ExitStack()

    def start(self, training: Training) -> None:
        """Draw the pairs, and start the callbacks and the progress, from a new or resumed state."""
        self._draw_pairs()
        for callback in self._callbacks:
            callback.on_start(training, self._config, self._folder.path)
            self._started.callback(callback.on_end)
        self._show("pairs.png", 0)
        monitor = self._config.monitor
        if self._data.class_names and (monitor.knn_every > 0 or monitor.linear_every > 0):
            with left_out("the accuracy on held-out images on the way"):
                self._held_out = HeldOut(self._data, self._config)
        self._progress = training_progress(self._config, self._source.steps, training)
        self._started.callback(self._progress.close)

    def close(self) -> None:
        """End the progress and the callbacks that were started."""
        self._started.close()

    def after_step(self, training: Training, stop: StopRequest) -> None:
        """Record everything that is due after a step.

        Raises:
            TrainingInterrupted: A signal has arrived, at any process; the state is saved.
        """
        epoch_ended = training.step % self._source.steps == 0
        with self._job.agreement():
            if self._job.is_first:
                self._record(training, epoch_ended)
        signal, training.stop = self._agree_to_stop(stop, training)
        if signal or training.stop or self._checkpoint_is_due(training, epoch_ended):
            self._job.on_first(lambda: self._save(training))
        if signal:
            raise TrainingInterrupted(
                f"saved after step {training.step}; to resume: simclr-ext train --resume "
                f"{self._folder.path}",
                signal,
            )

    def _record(self, training: Training, epoch_ended: bool) -> None:
        if epoch_ended:
            self._after_epoch(training)
        self._progress.advance(training)
        for callback in self._callbacks:
            callback.on_step(training)
            if epoch_ended:
                callback.on_epoch(training)

    def _agree_to_stop(self, stop: StopRequest, training: Training) -> tuple[int, bool]:
        """Return the signal that has arrived at any process, or 0, and whether training ends."""
        signal, ends = self._job.largest(stop.signal or 0, training.stop)
        return signal, bool(ends)

    def _save(self, training: Training) -> None:
        self._folder.save(training, self._config, self._data.train)
        self._announce("checkpoint.pt", training)

    def _after_epoch(self, training: Training) -> None:
        config, monitor, done = self._config, self._config.monitor, len(training.epochs)
        if self._held_out is not None:
            self._held_out.measure(training)
            if training.is_best():
                self._keep("best.pt", training)
        warn_of_new_problems(training.epochs, config.batch_size, config.warmup_epochs)
        if monitor.keep_epochs is not None and done % monitor.keep_epochs == 0:
            self._keep(f"epoch-{done:04}.pt", training)

    def _keep(self, name: str, training: Training) -> None:
        self._folder.keep(name, training, self._config)
        self._announce(name, training)

    def _announce(self, name: str, training: Training) -> None:
        """Tell the callbacks of a checkpoint."""
        for callback in self._callbacks:
            callback.on_checkpoint(training, self._folder.path / name)

    def _checkpoint_is_due(self, training: Training, epoch_ended: bool) -> bool:
        monitor, done = self._config.monitor, len(training.epochs)
        by_epoch = done % monitor.checkpoint_epochs == 0 or done == self._config.epochs
        every = monitor.checkpoint_steps
        return (epoch_ended and by_epoch) or (every is not None and training.step % every == 0)

    def after_training(self, training: Training) -> None:
        """Draw the loss, and close the progress bar."""
        self._progress.close()
        with left_out("loss.png"):
            plot_loss(self._folder.path / "loss.png", training.epochs, self._config.batch_size)

    def after_evaluation(self, training: Training, scores: Mapping[str, Scores]) -> TrainResult:
        """Write the test accuracies, if there are any, and return the run's result."""
        folder = self._folder.path
        if scores:
            with left_out("evaluation.json"):
                write_scores(folder / "evaluation.json", scores, training.step)
        epochs = tuple(training.epochs)
        result = TrainResult(folder, self._config, training.model.eval(), epochs, dict(scores))
        for callback in self._callbacks:
            callback.on_result(training, result)
        return result

    def draw_map(self, training: Training) -> None:
        """Draw the map of the test images, or of training images if there are none."""
        data, config, path = self._data, self._config, self._folder.path / "tsne.png"
        with left_out(path.name):
            name, part = data.unseen(TSNE_POINTS, config.seed)
            h = encode(training.model.encoder, part.images, config.side)
            title = f"t-SNE of h, {min(len(part), TSNE_POINTS):,} {name} images"
            plot_tsne(path, h, part.labels, data.class_names, config.seed, title)
        self._show(path.name, training.step)

    def _draw_pairs(self) -> None:
        """Draw images of the first batch, and two views of each."""
        batch = next(iter(self._source.batches(0)))[: len(self._source.share)]
        views = self._source.views(batch, derive_seed(self._config.seed, Stream.VIEWS))
        shown = [images[:_PAIRS] for images in (batch[:, 0], *views.chunk(2))]
        with left_out("pairs.png"):
            plot_pairs(self._folder.path / "pairs.png", *shown)

    def _show(self, name: str, step: int) -> None:
        """Tell the callbacks of a picture, if it could be drawn."""
        path = self._folder.path / name
        if path.exists():
            for callback in self._callbacks:
                callback.on_picture(path, step)
