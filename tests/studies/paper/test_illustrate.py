"""The example's numbers are those of the loss."""

import math

import pytest
import torch
from torch import Tensor

from simclr_ext import NTXentLoss, nt_xent_loss
from simclr_ext.studies.engine.figures import house_style
from simclr_ext.studies.engine.study import Cell, Row
from simclr_ext.studies.paper.illustrate import STUDY, work_through
from tests.studies.helpers import color_context


@pytest.fixture(params=[2, 4])
def z(request: pytest.FixtureRequest) -> Tensor:
    return torch.randn(2 * request.param, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_numbers_are_those_of_the_loss(z: Tensor, temperature: float) -> None:
    rows = work_through(z, temperature)
    terms = [row for row in rows if "loss" in row]
    pairs = {(row["view"], row["other"]): row for row in rows if "other" in row}
    n = len(z) // 2
    losses = nt_xent_loss(z[:n], z[n:], temperature, reduction="none")
    assert [float(row["loss"]) for row in terms] == losses.tolist()
    mean = NTXentLoss(temperature)(z[:n], z[n:]).item()
    assert sum(losses.tolist()) / len(z) == pytest.approx(mean, rel=1e-6)
    for i, row in enumerate(terms):
        p = (i + n) % len(z)
        own = [pairs[row["view"], other["view"]] for other in terms]
        # Computed from the pairs' similarities, in plain Python.
        s = [float(torch.cosine_similarity(z[i].double(), z[j].double(), dim=0))
             for j in range(len(z))]  # fmt: skip
        assert [float(pair["similarity"]) for pair in own] == pytest.approx(s)
        total = sum(math.exp(s[j] / temperature) for j in range(len(z)) if j != i)
        expected = [math.exp(s[j] / temperature) / total if j != i else 0 for j in range(len(z))]
        assert [float(pair["probability"]) for pair in own] == pytest.approx(expected)
        assert row["positive"] == terms[p]["view"]
        assert row["positive_similarity"] == pytest.approx(s[p])
        assert row["positive_probability"] == pytest.approx(expected[p])
        assert row["log_sum"] == pytest.approx(math.log(total))
        assert row["loss"] == pytest.approx(-math.log(expected[p]), rel=1e-4)
        difference = float(row["log_sum"]) - s[p] / temperature
        assert row["loss"] == pytest.approx(difference, rel=1e-4, abs=1e-6)


def test_the_example_is_computed_from_a_networks_views() -> None:
    context = color_context()
    rows: list[Row] = [{"seed": 0, **row} for row in STUDY.measure(Cell({}, 0), context)]
    names = [str(row["picture"]) for row in rows if "picture" in row]
    assert names == ["1", "2", "3", "4", "1a", "2a", "3a", "4a", "1b", "2b", "3b", "4b"]
    assert [row["view"] for row in rows if "loss" in row] == names[4:]
    assert sum("probability" in row for row in rows) == 64
    with house_style():
        figure = STUDY.draw(rows)
    assert len(figure.get_axes()) == 12 + 3
    losses = [float(row["loss"]) for row in rows if "loss" in row]
    findings = STUDY.findings(rows)
    assert f"**{sum(losses) / 8:.4f}**" in findings.note
    assert findings.note.count("exp(") == 7
    assert findings.table.splitlines()[2].rstrip(" |").endswith(f"{losses[0]:.4f}")
    assert STUDY.cells("cpu", seeds=3) == [Cell({}, 0)]
