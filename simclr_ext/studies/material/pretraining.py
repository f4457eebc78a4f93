"""Shared by the studies that train: the training of a cell's model, and the accuracy of its h."""

from __future__ import annotations

from torch import nn

from simclr_ext.studies.engine.study import Row
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.model.simclr import SimCLR, build_model
from simclr_ext.trainer.probes.comparison import probe_accuracies
from simclr_ext.trainer.probes.features import encode
from simclr_ext.trainer.probes.linear import standardize
from simclr_ext.trainer.training.gradient import Loss
from simclr_ext.trainer.training.loop import pretrain
from simclr_ext.trainer.training.process import freed_memory_kept
from simclr_ext.trainer.training.state import Training
from simclr_ext.trainer.views.batches import Source, build_source


def train_model(
    config: ResolvedConfig, data: Dataset, source: Source | None = None, loss: Loss | None = None
) -> SimCLR:
    """Return a model trained by a configuration, on its device.

    Args:
        config: The run, resolved; nothing is written.
        data: The images.
        source: Batches and views; None: the configuration's.
        loss: Loss of the projections; None: NT-Xent at the configuration's temperature.

    Raises:
        DataError: The batch size exceeds the number of images.
        DivergedError: The loss is not finite.
    """
    source = source or build_source(data, config)
    training = Training.start(build_model(config).to(config.device), config)
    with freed_memory_kept():
        for _ in pretrain(training, source, config, loss):
            pass
    return training.model


def h_and_z(model: SimCLR) -> dict[str, nn.Module]:
    """Return the networks from images to h and to z = g(h), by name; they share weights."""
    return {"h": model.encoder, "z": nn.Sequential(model.encoder, model.head)}


def probe(network: nn.Module, data: Dataset, side: int) -> Row:
    """Return the test accuracies in [0, 1] of a frozen representation.

    Args:
        network: Module that maps images [B, C, side, side] to features [B, dim].
        data: Training and test images; those with labels are used.
        side: Side in pixels to which images are resized.

    Returns:
        "linear", by logistic regression (appendix B.8), and "knn", by the 20 nearest neighbors; on
        standardized features, with all labels.
    """
    data = data.labeled
    train, test = (
        encode(network, images, side) for images in (data.train.images, data.test.images)
    )
    labels, expected = data.train.labels.numpy(), data.test.labels.numpy()
    train, test = standardize(train, test)
    linear, knn = probe_accuracies(train, labels, test, expected)
    return {"linear": linear, "knn": knn}
