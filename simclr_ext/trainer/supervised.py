"""Training a classifier with labels: the SGD of the paper's linear evaluation and fine-tuning.

Nesterov momentum without warmup and without weight decay, on random crops and flips alone (SimCLR,
arXiv 2002.05709, appendices B.5 and B.6); the rate decays by a cosine, as in the authors' code.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from simclr_ext.trainer.augment import Augment
from simclr_ext.trainer.config import AugmentConfig
from simclr_ext.trainer.config.evaluate import SgdConfig
from simclr_ext.trainer.crops import crop_files
from simclr_ext.trainer.data import Images
from simclr_ext.trainer.errors import DivergedError
from simclr_ext.trainer.features import Labels
from simclr_ext.trainer.image_ops import resize
from simclr_ext.trainer.ranking import rank


def crop_and_flip(config: AugmentConfig, size: int) -> Augment:
    """Return the augmentation of a run without its colours and blur, for a resolved run."""
    return Augment(
        AugmentConfig(
            crop_ratio=config.crop_ratio,
            crop_area=config.crop_area,
            flip_probability=config.flip_probability,
            jitter_probability=0.0,
            grayscale_probability=0.0,
            blur_probability=0.0,
        ),
        size,
    )


def random_views(
    images: Images, augment: Augment, device: torch.device
) -> Callable[[Tensor, Generator], Tensor]:
    """Return the function of rows [b] and a source of random numbers to views, on the device.

    Args:
        images: [n, C, H, W] uint8, or files, whose crops are taken from the image as it is.
        augment: The views.
        device: Where they are made, but for the crops of files.
    """
    if isinstance(images, Tensor):
        return lambda rows, random: augment(images[rows].to(device), random)
    uncropped = Augment(dataclasses.replace(augment.config, crop_probability=0.0), augment.size)

    def views(rows: Tensor, random: Generator) -> Tensor:
        seeds = torch.randint(2**63 - 1, (len(rows),), generator=random)
        crops = crop_files(images, rows, augment.config, seeds)
        return uncropped(crops.to(device), random)

    return views


def train_classifier(
    classifier: nn.Module,
    inputs: Callable[[Tensor, Generator], Tensor],
    labels: Tensor,
    config: SgdConfig,
    seed: int,
) -> None:
    """Minimise the cross-entropy of a classifier, in place.

    Args:
        classifier: Module of a batch of inputs to logits, in the mode that it trains in.
        inputs: Function of rows [b] and a source of random numbers to their inputs.
        labels: [n] int64, on the classifier's device.
        config: Epochs, batch and rate; `config.epochs` is a number.
        seed: Seed of the order and of `inputs`.

    Raises:
        DivergedError: The loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    peak = config.learning_rate * config.batch_size / 256
    parameters = [p for p in classifier.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, peak, momentum=config.momentum, nesterov=True)
    # A last batch of one image has no statistics for a batch norm.
    count, size = len(labels), config.batch_size
    steps = max(1, count // size + (count % size > 1))
    epochs = config.epochs or 1
    for epoch in range(epochs):
        order = torch.randperm(count, generator=generator)
        for step, rows in enumerate(torch.split(order, size)[:steps]):
            progress = (epoch + step / steps) / epochs
            for group in optimizer.param_groups:
                group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * progress))
            logits: Tensor = classifier(inputs(rows, generator))
            loss = F.cross_entropy(logits, labels[rows.to(labels.device)])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if not math.isfinite(loss.item()):
            raise DivergedError(
                f"the classifier's loss is {loss.item()} in epoch {epoch + 1}: try a learning rate "
                f"below {config.learning_rate:g}"
            )


def predict(classifier: nn.Module, images: Images, size: int, chunk: int = 512) -> Labels:
    """Return the labels [n] that a classifier gives images; see `rank_images`."""
    return rank_images(classifier, images, size, chunk)[:, 0]


@torch.no_grad()
def rank_images(classifier: nn.Module, images: Images, size: int, chunk: int = 512) -> Labels:
    """Return the classes that a classifier gives images, the likeliest first.

    Args:
        classifier: Module of images to logits, run in evaluation mode, and left in it.
        images: [n, C, H, W] uint8, or files.
        size: Side in pixels to which images are resized.
        chunk: Images at a time.

    Returns:
        [n, 5], or fewer if there are fewer classes.
    """
    classifier.eval()
    device = next(classifier.parameters()).device
    parts = []
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].to(device)
        parts.append(rank(classifier(resize(part, size))))
    return np.concatenate(parts)


def stratified_subset(labels: Labels, fraction: float, seed: int) -> Labels:
    """Return the rows, in order, of a random fraction of every class, at least one of each.

    Example:
        >>> stratified_subset(np.repeat([0, 1], [100, 10]), 0.1, seed=0).shape
        (11,)
    """
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(fraction * len(members)))
        chosen.append(random.choice(members, count, replace=False))
    return np.sort(np.concatenate(chosen))
