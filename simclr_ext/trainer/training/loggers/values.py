"""What loggers write: measurements by name, as in TensorBoard."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from simclr_ext.trainer.probes.scores import Scores
from simclr_ext.trainer.training.state import Epoch

_NOT_MEASURED = ("epoch", "step", "seconds")  # where an epoch is, and not how it went


def epoch_values(epoch: Epoch) -> dict[str, float]:
    """Return an epoch's measurements, such as "train/loss", without those that were not taken."""
    values = dataclasses.asdict(epoch)
    return {
        f"train/{name}": value
        for name, value in values.items()
        if name not in _NOT_MEASURED and value is not None
    }


def score_values(scores: Mapping[str, Scores]) -> dict[str, float]:
    """Return mean test accuracies, such as "test/linear_all/trained_encoder"."""
    return {
        f"test/{field.name}/{name.replace(' ', '_')}": getattr(score, field.name).mean
        for name, score in scores.items()
        for field in dataclasses.fields(score)
    }
