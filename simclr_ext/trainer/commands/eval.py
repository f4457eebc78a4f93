"""`simclr-ext eval`: evaluates frozen features with several probes, over several runs."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from simclr_ext.options.serialize import to_plain
from simclr_ext.trainer.atomic import write_text
from simclr_ext.trainer.commands.session import Session, open_session
from simclr_ext.trainer.config.commands import EvalConfig, Probe, SgdConfig
from simclr_ext.trainer.data import Images
from simclr_ext.trainer.probes.comparison import pixels_fit
from simclr_ext.trainer.probes.features import (
    FeatureCache,
    Features,
    Labels,
    encode,
    fingerprint,
    pixels,
)
from simclr_ext.trainer.probes.knn import rank_by_neighbors
from simclr_ext.trainer.probes.linear import augmented_probe, cached_probe, lbfgs_probe, standardize
from simclr_ext.trainer.probes.scores import TOP, Accuracy, accuracy
from simclr_ext.trainer.probes.tables import accuracy_to_plain, markdown_table, percent
from simclr_ext.trainer.progress import each
from simclr_ext.trainer.views.augment import crop_and_flip

_TRAINED, _PIXELS = "trained encoder", "raw pixels"
_TITLES = {"knn": "k-NN", "lbfgs": "linear, L-BFGS", "sgd": "linear, SGD"}
_SGD_EPOCHS = 90  # appendix B.6

# Name of each representation to name of each probe to test accuracy.
Accuracies = dict[str, dict[str, Accuracy]]
# Names of a representation and a probe to the top-1 and the top-5 accuracy of each run.
Draws = dict[tuple[str, str], list[tuple[float, float]]]
# Computes the features of the training and of the test images.
Represent = Callable[[], tuple[Features, Features]]


@dataclass(frozen=True)
class EvalResult:
    """The result of an evaluation.

    Attributes:
        folder: Folder of evaluation.json and evaluation.md.
        data: Name of the data set.
        accuracies: Name of each representation to name of each probe to test accuracy; the draws
            are the checkpoints.
        top5: The same for top-5 accuracy, the share of test images whose class is among the first
            five; empty if there are no more than five classes.
    """

    folder: Path
    data: str
    accuracies: Accuracies
    top5: Accuracies

    @property
    def table(self) -> str:
        """The accuracies as a Markdown table."""
        columns: list[tuple[str, str, Accuracies]] = []
        for probe in self.accuracies[_TRAINED]:
            columns.append((_TITLES[probe], probe, self.accuracies))
            if self.top5:
                columns.append(("top-5", probe, self.top5))
        rows = []
        for name in self.accuracies:
            cells = [of[name].get(probe) for _, probe, of in columns]
            rows.append([name, *("" if cell is None else percent(cell) for cell in cells)])
        table = markdown_table(["test accuracy, %", *(title for title, _, _ in columns)], rows)
        runs = len(next(iter(self.accuracies[_TRAINED].values())).draws)
        note = f"\n± is the standard deviation over {runs} checkpoints." if runs > 1 else ""
        return f"{table}{note}"

    def __str__(self) -> str:
        """Return what the command line prints."""
        return f"{self.data}\n\n{self.table}\n\nresults: {self.folder}"


def run_eval(config: EvalConfig, module: nn.Module | None = None) -> EvalResult:
    """Evaluate checkpoints and write the results; see `simclr_ext.trainer.evaluate_checkpoint`."""
    draws: Draws = {}
    chosen: list[float] = []
    for checkpoint in (config.checkpoint, *config.also):
        options = dataclasses.replace(config, checkpoint=checkpoint)
        with open_session(options, module) as session:
            if checkpoint == config.checkpoint:
                first = session
                folder = session.folder(config.out, f"eval-{session.labeled.name}")
            labels = session.labeled.test.labels.numpy()
            for name, probe, ranking in _evaluate(session, config, chosen):
                found = accuracy(ranking, labels), accuracy(ranking, labels, TOP)
                draws.setdefault((name, probe), []).append(found)
    result = EvalResult(
        folder,
        first.data.name,
        _accuracies(draws, 0),
        _accuracies(draws, 1) if first.classes > TOP else {},
    )
    _write(result, config, chosen)
    return result


def _accuracies(draws: Draws, which: int) -> Accuracies:
    accuracies: Accuracies = {}
    for (name, probe), found in draws.items():
        values = tuple(draw[which] for draw in found)
        accuracies.setdefault(name, {})[probe] = Accuracy(values)
    return accuracies


def _evaluate(
    session: Session, config: EvalConfig, chosen: list[float]
) -> Iterator[tuple[str, str, Labels]]:
    """Yield representation, probe and ranked classes; add the trained encoder's C to `chosen`."""
    for name, represent in each("evaluating", list(_representations(session, config).items())):
        features = functools.cache(represent)  # computed at most once, and only if a probe needs it
        for probe in config.probes:
            if probe == "sgd" and config.augment:
                if name != _PIXELS:
                    yield name, probe, _rank_by_views(session, config, name)
            else:
                found = chosen if name == _TRAINED else []
                yield name, probe, _rank_by_features(session, config, probe, features, found)


def _rank_by_features(
    session: Session, config: EvalConfig, probe: Probe, features: Represent, chosen: list[float]
) -> Labels:
    """Return the classes that a probe on features ranks first; "lbfgs" adds its C to `chosen`."""
    (train, test), labels = features(), session.labeled.train.labels.numpy()
    if probe == "knn":
        keys, queries = standardize(train, test)
        return rank_by_neighbors(keys, labels, queries, config.neighbors, config.temperature)
    if probe == "lbfgs":
        ranking, c = lbfgs_probe(train, labels, test, config.c, config.seed)
        chosen.append(c)
        return ranking
    return cached_probe(train, labels, test, session.classes, _sgd(config), config.seed)


def _rank_by_views(session: Session, config: EvalConfig, name: str) -> Labels:
    """Return the classes that the SGD probe on random views of images ranks first."""
    encoder, dim = _network(session, name, config.head_layers)
    augment = crop_and_flip(session.checkpoint.config.augment, session.side)
    data = session.labeled
    return augmented_probe(
        encoder, dim, augment, data.train.images, data.train.labels.numpy(), data.test.images,
        session.classes, _sgd(config), config.seed,
    )  # fmt: skip


def _sgd(config: EvalConfig) -> SgdConfig:
    return dataclasses.replace(config.sgd, epochs=config.sgd.epochs or _SGD_EPOCHS)


def _representations(session: Session, config: EvalConfig) -> dict[str, Represent]:
    # What an own encoder computes depends on its code, which no fingerprint covers.
    cached = config.cache and session.module is None
    cache = FeatureCache(session.path.parent / "features" if cached else None)
    data = session.labeled

    def raw_pixels() -> tuple[Features, Features]:
        return pixels(data.train.images), pixels(data.test.images)

    def encoded(name: str) -> tuple[Features, Features]:
        encoder, _ = _network(session, name, config.head_layers)

        def compute(images: Images) -> Features:
            # The encoder before training depends on the run, whose checkpoint is in the key.
            key = fingerprint(session.path, images, session.side, config.head_layers, name)
            return cache.get(key, lambda: encode(encoder, images, session.side))

        return compute(data.train.images), compute(data.test.images)

    representations: dict[str, Represent] = {}
    if config.baselines:
        if pixels_fit(data):
            representations[_PIXELS] = raw_pixels
        representations[session.start] = functools.partial(encoded, session.start)
    representations[_TRAINED] = functools.partial(encoded, _TRAINED)
    return representations


def _network(session: Session, name: str, head_layers: int) -> tuple[nn.Module, int]:
    return session.encoder(head_layers) if name == _TRAINED else session.initial(head_layers)


def _write(result: EvalResult, config: EvalConfig, chosen: list[float]) -> None:
    contents = {
        "data": result.data,
        "protocol": {**to_plain(config), "chosen_c": chosen},
        "test_accuracy": _plain(result.accuracies),
        **({"test_top5_accuracy": _plain(result.top5)} if result.top5 else {}),
    }
    text = json.dumps(contents, indent=2) + "\n"
    write_text(result.folder / "evaluation.json", text)
    write_text(result.folder / "evaluation.md", result.table + "\n")


def _plain(accuracies: Accuracies) -> dict[str, dict[str, Any]]:
    return {
        name: {probe: accuracy_to_plain(value) for probe, value in found.items()}
        for name, found in accuracies.items()
    }
