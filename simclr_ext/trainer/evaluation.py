"""`simclr-ext eval`: how good frozen features are, by several probes, over several runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from simclr_ext.trainer.config.evaluate import EvalConfig
from simclr_ext.trainer.config.serialise import to_plain
from simclr_ext.trainer.evaluate import Accuracy, standardise
from simclr_ext.trainer.features import (
    FeatureCache,
    Features,
    Labels,
    encode,
    fingerprint,
    pixels,
)
from simclr_ext.trainer.knn import nearest_neighbours
from simclr_ext.trainer.probe import augmented_probe, cached_probe, lbfgs_probe
from simclr_ext.trainer.report import accuracy_to_plain, markdown_table, percent
from simclr_ext.trainer.session import Session, open_session
from simclr_ext.trainer.supervised import crop_and_flip

_TRAINED, _UNTRAINED, _PIXELS = "trained encoder", "untrained encoder", "raw pixels"
_TITLES = {"knn": "k-NN", "lbfgs": "linear, L-BFGS", "sgd": "linear, SGD"}
_SGD_EPOCHS = 90  # appendix B.6

# Of a representation's name and a probe's, the accuracies of the runs.
Accuracies = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class EvalResult:
    """What an evaluation found.

    Attributes:
        folder: Where evaluation.json and evaluation.md are.
        data: Name of the data set.
        accuracies: Name of each representation, and of each probe, to its test accuracy; the draws
            are the checkpoints.
    """

    folder: Path
    data: str
    accuracies: dict[str, dict[str, Accuracy]]

    @property
    def table(self) -> str:
        """The accuracies as a Markdown table."""
        probes = list(self.accuracies[_TRAINED])
        rows = [
            [name, *(percent(found[probe]) if probe in found else "" for probe in probes)]
            for name, found in self.accuracies.items()
        ]
        table = markdown_table(["test accuracy, %", *(_TITLES[probe] for probe in probes)], rows)
        runs = len(next(iter(self.accuracies[_TRAINED].values())).draws)
        note = f"\n± is the standard deviation over {runs} checkpoints." if runs > 1 else ""
        return f"{table}{note}"

    def __str__(self) -> str:
        """Return what the command line prints."""
        return f"{self.data}\n\n{self.table}\n\nresults: {self.folder}"


def run_eval(config: EvalConfig) -> EvalResult:
    """Evaluate checkpoints and write the results; see `simclr_ext.trainer.evaluate_checkpoint`."""
    accuracies: Accuracies = {}
    chosen: list[float] = []
    for checkpoint in (config.checkpoint, *config.also):
        with open_session(dataclasses.replace(config, checkpoint=checkpoint)) as session:
            if checkpoint == config.checkpoint:
                first = session
            for name, probe, accuracy in _evaluate(session, config, chosen):
                accuracies.setdefault(name, {}).setdefault(probe, []).append(accuracy)
    result = EvalResult(
        first.folder(config.out, f"eval-{first.data.name}"),
        first.data.name,
        {
            name: {probe: Accuracy(tuple(draws)) for probe, draws in found.items()}
            for name, found in accuracies.items()
        },
    )
    _write(result, config, chosen)
    return result


def _evaluate(
    session: Session, config: EvalConfig, chosen: list[float]
) -> Iterator[tuple[str, str, float]]:
    """Yield representation, probe and accuracy; add the C of the trained encoder to `chosen`."""
    data = session.data
    labels, test_labels = data.train_labels.numpy(), data.test_labels.numpy()
    sgd = dataclasses.replace(config.sgd, epochs=config.sgd.epochs or _SGD_EPOCHS)

    def accuracy(predicted: Labels) -> float:
        return float(np.mean(predicted == test_labels))

    for name, represent in tqdm(_representations(session, config).items(), desc="evaluating"):
        train, test = represent(data.train_images), represent(data.test_images)
        for probe in config.probes:
            if probe == "knn":
                k, temperature = config.neighbours, config.temperature
                keys, queries = standardise(train, test)
                predicted = nearest_neighbours(keys, labels, queries, k, temperature)
                yield name, probe, accuracy(predicted)
            elif probe == "lbfgs":
                predicted, c = lbfgs_probe(train, labels, test, config.c, config.seed)
                if name == _TRAINED:
                    chosen.append(c)
                yield name, probe, accuracy(predicted)
            elif not config.augment:
                classes = session.classes
                predicted = cached_probe(train, labels, test, classes, sgd, config.seed)
                yield name, probe, accuracy(predicted)
            elif name != _PIXELS:
                encoder, dim = _network(session, name, config.head_layers)
                augment = crop_and_flip(session.checkpoint.config.augment, session.side)
                predicted = augmented_probe(
                    encoder, dim, augment, data.train_images, labels, data.test_images,
                    session.classes, sgd, config.seed,
                )  # fmt: skip
                yield name, probe, accuracy(predicted)


def _representations(
    session: Session, config: EvalConfig
) -> dict[str, Callable[[Tensor], Features]]:
    cache = FeatureCache(session.path.parent / "features" if config.cache else None)

    def represent(name: str) -> Callable[[Tensor], Features]:
        def compute(images: Tensor) -> Features:
            # The untrained encoder depends on the run's configuration, which the file has.
            key = fingerprint(session.path, images, session.side, config.head_layers, name)
            encoder, _ = _network(session, name, config.head_layers)
            return cache.get(key, lambda: encode(encoder, images, session.side))

        return compute

    baselines = {_PIXELS: pixels, _UNTRAINED: represent(_UNTRAINED)} if config.baselines else {}
    return {**baselines, _TRAINED: represent(_TRAINED)}


def _network(session: Session, name: str, head_layers: int) -> tuple[nn.Module, int]:
    return session.encoder(head_layers) if name == _TRAINED else session.untrained(head_layers)


def _write(result: EvalResult, config: EvalConfig, chosen: list[float]) -> None:
    contents = {
        "data": result.data,
        "protocol": {**to_plain(config), "chosen_c": chosen},
        "test_accuracy": {
            name: {probe: accuracy_to_plain(accuracy) for probe, accuracy in found.items()}
            for name, found in result.accuracies.items()
        },
    }
    text = json.dumps(contents, indent=2) + "\n"
    (result.folder / "evaluation.json").write_text(text, encoding="utf-8")
    (result.folder / "evaluation.md").write_text(result.table + "\n", encoding="utf-8")
