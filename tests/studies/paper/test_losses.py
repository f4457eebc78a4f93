"""The comparison of losses: losses and parameters that are trained, and which one is the best."""

import functools

import pytest
import torch
from torch import Tensor

from simclr_ext import nt_xent_loss
from simclr_ext.studies.engine.figures import house_style
from simclr_ext.studies.engine.study import Cell, Row
from simclr_ext.studies.material import other_losses
from simclr_ext.studies.paper import losses
from simclr_ext.studies.paper.losses import STUDY, build_loss, negative_weights, nt_xent_rows
from simclr_ext.trainer.config import ResolvedConfig
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.model.simclr import SimCLR, build_model
from simclr_ext.trainer.training.gradient import Loss
from tests.studies.helpers import color_context


@pytest.fixture
def views() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    z0, z1 = torch.randn(2, 6, 5, dtype=torch.float64, generator=random)
    return z0, z0 + z1


def test_every_cell_trains_the_loss_that_it_names(views: tuple[Tensor, Tensor]) -> None:
    expected = {
        "nt-xent": nt_xent_loss(*views, 0.3),
        "nt-logistic": other_losses.nt_logistic_loss(*views, 0.3),
        "nt-logistic-sh": other_losses.nt_logistic_loss(*views, 0.3, semi_hard=True),
        "margin": other_losses.margin_triplet_loss(*views, 0.3),
        "margin-sh": other_losses.margin_triplet_loss(*views, 0.3, semi_hard=True),
    }
    found = {name: build_loss(name, 0.3)(*views) for name in expected}
    assert found == expected
    assert len({round(loss.item(), 6) for loss in found.values()}) == 5
    for scale in ("tiny", "cpu", "paper"):
        assert {str(variant["loss"]) for variant in STUDY.variants(scale)} == set(expected)


def test_a_cell_trains_with_its_loss(
    views: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, used = color_context(), []

    def train(config: ResolvedConfig, data: Dataset, loss: Loss) -> SimCLR:
        used.append(loss(*views).item())
        return build_model(config)

    monkeypatch.setattr(losses, "train_model", train)
    STUDY.measure(Cell({"loss": "margin-sh", "parameter": 0.8}, seed=0), context)
    assert used == [other_losses.margin_triplet_loss(*views, 0.8, semi_hard=True).item()]


def test_rows_of_nt_xent_are_the_losses(views: tuple[Tensor, Tensor]) -> None:
    ours = nt_xent_rows(*other_losses._similarities(*views, semi_hard=False), temperature=0.2)
    torch.testing.assert_close(ours, nt_xent_loss(*views, 0.2, reduction="none"))


def test_weights_of_negatives_are_table_2s() -> None:
    s, weight = negative_weights(functools.partial(nt_xent_rows, temperature=0.2))
    assert torch.equal(s[[0, -1]], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    total = (torch.cat([torch.tensor([0.9]), s]) / 0.2).exp().sum()
    torch.testing.assert_close(weight, (s / 0.2).exp() / total / 0.2)
    s, weight = negative_weights(functools.partial(other_losses.nt_logistic_rows, temperature=0.2))
    torch.testing.assert_close(weight, (s / 0.2).sigmoid() / 0.2 / len(s))
    s, weight = negative_weights(functools.partial(other_losses.margin_triplet_rows, margin=0.4))
    torch.testing.assert_close(weight, (s > 0.5).double() / len(s))


def rows(**accuracies: tuple[float, float]) -> list[Row]:
    """Return rows of two parameters of each loss, with two seeds."""
    return [
        {"loss": name.replace("_", "-"), "parameter": parameter, "seed": seed,
         "linear": accuracy + 0.01 * seed, "knn": 0.5}
        for name, pair in accuracies.items()
        for parameter, accuracy in zip((0.1, 0.5), pair, strict=True)
        for seed in range(2)
    ]  # fmt: skip


def test_losses_are_compared_at_their_best_parameters() -> None:
    found = rows(
        nt_xent=(0.2, 0.6), nt_logistic=(0.3, 0.1), nt_logistic_sh=(0.2, 0.1), margin=(0.1, 0.2),
        margin_sh=(0.5, 0.1),
    )  # fmt: skip
    findings = STUDY.findings(found)
    assert [o.holds for o in findings.orderings] == [True, False, True]
    lines = findings.table.splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == [
        "T = 0.5", "T = 0.1", "m = 0.1", "T = 0.1", "m = 0.5"
    ]  # fmt: skip
    assert "60.5 ± 0.7" in lines[0]
    assert "63.9" in lines[0]


def test_what_is_missing_is_left_out() -> None:
    found = rows(nt_logistic=(0.3, 0.1))
    findings = STUDY.findings(found)
    assert [o.holds for o in findings.orderings] == [None, None, None]
    with house_style():
        accuracies, _ = STUDY.draw(found).axes
    assert [text.get_text() for text in accuracies.texts] == ["T = 0.1"]
