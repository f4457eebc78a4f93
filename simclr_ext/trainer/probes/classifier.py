"""Training a classifier with labels: the SGD of the paper's linear evaluation and fine-tuning.

Nesterov momentum without warmup and without weight decay, on random crops and flips only (SimCLR,
arXiv 2002.05709, appendices B.5 and B.6); the rate decays by a cosine, as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from simclr_ext.options.errors import DivergedError
from simclr_ext.trainer.config.commands import SgdConfig
from simclr_ext.trainer.data import Images
from simclr_ext.trainer.probes.features import Labels
from simclr_ext.trainer.probes.scores import rank
from simclr_ext.trainer.views.image_ops import resize


def train_classifier(
    classifier: nn.Module,
    inputs: Callable[[Tensor, Generator], Tensor],
    labels: Tensor,
    config: SgdConfig,
    seed: int,
) -> None:
    """Minimize the cross-entropy of a classifier, in place.

    Args:
        classifier: Module that maps inputs to logits, already in the mode that it is trained in.
        inputs: Function of rows [b] and a random generator, which returns their inputs.
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
    # Batch norm cannot compute statistics of a last batch of one image.
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
    """Return the labels [n] that a classifier predicts for images; see `rank_images`."""
    return rank_images(classifier, images, size, chunk)[:, 0]


@torch.no_grad()
def rank_images(classifier: nn.Module, images: Images, size: int, chunk: int = 512) -> Labels:
    """Return the classes that a classifier predicts for images, the likeliest first.

    Args:
        classifier: Module that maps images to logits; it is set to evaluation mode.
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
