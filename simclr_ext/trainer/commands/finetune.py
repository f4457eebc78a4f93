"""`simclr-ext finetune`: all weights trained with few labels or with all (appendix B.5)."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from simclr_ext.options.serialize import to_plain
from simclr_ext.trainer.atomic import replacing, write_text
from simclr_ext.trainer.commands.session import Session, open_session
from simclr_ext.trainer.config.commands import FinetuneConfig
from simclr_ext.trainer.data.split import stratified_subset
from simclr_ext.trainer.probes.classifier import rank_images, train_classifier
from simclr_ext.trainer.probes.linear import linear_classifier
from simclr_ext.trainer.probes.scores import TOP, Accuracy, accuracy
from simclr_ext.trainer.probes.tables import accuracy_to_plain, markdown_table, percent
from simclr_ext.trainer.views.augment import crop_and_flip
from simclr_ext.trainer.views.batches import random_views

_FEW = 0.01  # up to this share of the labels
_EPOCHS_FEW, _EPOCHS = 60, 30


@dataclass(frozen=True)
class FinetuneResult:
    """The result of fine-tuning.

    Attributes:
        folder: Folder of finetune.json, finetune.md, and classifier.pt of the first repetition.
        data: Name of the data set.
        images: Labeled images of each repetition.
        accuracy: Test accuracy; the draws are the repetitions.
        top5: Share of test images whose class is among the first five; None if there are no more
            than five classes.
        start: Name of the encoder from which it started.
    """

    folder: Path
    data: str
    images: int
    accuracy: Accuracy
    top5: Accuracy | None
    start: str

    @property
    def table(self) -> str:
        """The accuracy as a Markdown table."""
        header = [f"test accuracy on {self.data}, %", f"{self.images:,} labels"]
        row = [f"fine-tuned {self.start}", percent(self.accuracy)]
        if self.top5 is not None:
            header.append("top-5")
            row.append(percent(self.top5))
        table = markdown_table(header, [row])
        draws = len(self.accuracy.draws)
        note = f"\n± is the standard deviation over {draws} draws of the labels."
        return table + (note if draws > 1 else "")

    def __str__(self) -> str:
        """Return what the command line prints."""
        return f"{self.table}\n\nresults: {self.folder}"


def run_finetune(config: FinetuneConfig, module: nn.Module | None = None) -> FinetuneResult:
    """Fine-tune and write the results; see `simclr_ext.trainer.finetune_checkpoint`."""
    epochs = config.sgd.epochs or (_EPOCHS_FEW if config.labels <= _FEW else _EPOCHS)
    config = dataclasses.replace(config, sgd=dataclasses.replace(config.sgd, epochs=epochs))
    with open_session(config, module) as session:
        start = session.start if config.scratch else "trained encoder"
        name = f"finetune-{session.labeled.name}-{config.labels:g}"
        folder = session.folder(config.out, f"{name}-scratch" if config.scratch else name)
        train, test = session.labeled.train, session.labeled.test
        labels, test_labels = train.labels.numpy(), test.labels.numpy()
        top1: list[float] = []
        top5: list[float] = []
        for seed in range(config.seed, config.seed + config.seeds):
            rows = torch.from_numpy(stratified_subset(labels, config.labels, seed))
            classifier = _finetune(session, config, rows, seed)
            ranking = rank_images(classifier, test.images, session.side)
            top1.append(accuracy(ranking, test_labels))
            top5.append(accuracy(ranking, test_labels, TOP))
            if seed == config.seed:
                with replacing(folder / "classifier.pt") as file:
                    torch.save(classifier.cpu().state_dict(), file)
        result = FinetuneResult(
            folder,
            session.labeled.name,
            len(rows),
            Accuracy(tuple(top1)),
            Accuracy(tuple(top5)) if session.classes > TOP else None,
            start,
        )
    _write(result, config)
    return result


def _finetune(session: Session, config: FinetuneConfig, rows: Tensor, seed: int) -> nn.Module:
    """Return a classifier fine-tuned on some of the training images."""
    start = session.initial if config.scratch else session.encoder
    encoder, dim = start(config.head_layers)
    linear = linear_classifier(dim, session.classes, seed)
    # A copy, because the next repetition starts from the same weights.
    classifier = nn.Sequential(copy.deepcopy(encoder), linear).to(session.device).train()
    augment = crop_and_flip(session.checkpoint.config.augment, session.side)
    views = random_views(session.labeled.train.images, augment, session.device)

    def inputs(batch: Tensor, generator: Generator) -> Tensor:
        return views(rows[batch], generator)

    labels = session.labeled.train.labels[rows].to(session.device)
    train_classifier(classifier, inputs, labels, config.sgd, seed)
    return classifier


def _write(result: FinetuneResult, config: FinetuneConfig) -> None:
    contents = {
        "data": result.data,
        "start": result.start,
        "labeled_images": result.images,
        "protocol": to_plain(config),
        "test_accuracy": accuracy_to_plain(result.accuracy),
    }
    if result.top5 is not None:
        contents["test_top5_accuracy"] = accuracy_to_plain(result.top5)
    text = json.dumps(contents, indent=2) + "\n"
    write_text(result.folder / "finetune.json", text)
    write_text(result.folder / "finetune.md", result.table + "\n")
