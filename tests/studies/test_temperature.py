"""What is measured after the training."""

import math

import pytest

from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.scales import open_context
from simclr_ext.studies.study import Cell
from simclr_ext.studies.temperature import STUDY


@pytest.mark.parametrize("similarity", ["cosine", "dot product"])
def test_what_is_measured(similarity: str) -> None:
    context = open_context(StudyConfig("temperature"))
    cell = Cell({"similarity": similarity, "temperature": 1.0}, seed=0)
    (row,) = STUDY.measure(cell, context)
    assert set(row) == {"linear", "knn", "contrastive", "entropy"}
    assert 0 < float(row["contrastive"]) <= 1
    assert 0 < float(row["entropy"]) <= math.log(2 * context.config.batch_size - 1)
