"""A cell trains with its head and its dimension of z."""

import pytest

from simclr_ext.studies.engine.study import Cell
from simclr_ext.studies.paper import projection_head
from simclr_ext.studies.paper.projection_head import STUDY
from tests.studies.helpers import color_context, trained_configs


@pytest.mark.parametrize(("head", "dim"), [("mlp", 8), ("linear", 32), ("none", 0)])
def test_the_model_is_that_of_the_cell(
    head: str, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, configs = color_context(), trained_configs(monkeypatch, projection_head)
    STUDY.measure(Cell({"head": head, "dim": dim}, seed=0), context)
    (config,) = configs
    assert config.model.projection == head
    assert config.model.projection_dim == (dim or context.config.model.projection_dim)
