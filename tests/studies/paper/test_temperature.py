"""Temperature and normalization reach the loss; measurements after the training."""

import itertools
import math

import pytest
import torch

from simclr_ext import nt_xent_loss
from simclr_ext.diagnostics import contrastive_metrics
from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.engine.scales import open_context
from simclr_ext.studies.engine.study import Cell
from simclr_ext.studies.paper import temperature as module
from simclr_ext.studies.paper.temperature import STUDY
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.model.simclr import SimCLR, build_model
from simclr_ext.trainer.seeds import Stream, derive_seed, generator
from simclr_ext.trainer.training.gradient import Loss
from simclr_ext.trainer.views.batches import Source


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("similarity", ["cosine", "dot product"])
def test_loss_and_metrics_are_those_of_the_cell(
    similarity: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, normalize = open_context(StudyConfig("temperature")), similarity == "cosine"
    model = build_model(context.config)
    expected = []

    def train(config: ResolvedConfig, data: Dataset, source: Source, loss: Loss) -> SimCLR:
        assert config.temperature == temperature
        z0, z1 = torch.randn(2, 8, 4, generator=generator(0))
        of_cell = nt_xent_loss(z0, z1, temperature, normalize=normalize)
        assert float(loss(z0, z1)) == pytest.approx(float(of_cell))
        # The views of the epoch after the training.
        batches = itertools.islice(source.batches(config.epochs), 10)
        for step, batch in enumerate(batches, config.epochs * source.steps):
            views = source.views(batch, derive_seed(config.seed, Stream.VIEWS, step))
            with torch.no_grad():
                z0, z1 = model.train()(views)[1].chunk(2)
            metrics = contrastive_metrics(z0, z1, temperature, normalize=normalize)
            expected.append((float(metrics.accuracy), float(metrics.entropy)))
        return model

    monkeypatch.setattr(module, "train_model", train)
    cell = Cell({"similarity": similarity, "temperature": temperature}, seed=0)
    (row,) = STUDY.measure(cell, context)
    assert set(row) == {"linear", "knn", "contrastive", "entropy"}
    accuracy, entropy = torch.tensor(expected, dtype=torch.float64).mean(dim=0).tolist()
    assert float(row["contrastive"]) == pytest.approx(accuracy, rel=1e-5)
    assert float(row["entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert 0 < entropy <= math.log(2 * context.config.batch_size - 1)
