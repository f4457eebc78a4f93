"""A cell trains with its epochs and batch size; batch sizes are compared seed by seed."""

import pytest

from simclr_ext.studies.engine.study import Cell, Row
from simclr_ext.studies.paper import batch_epochs
from simclr_ext.studies.paper.batch_epochs import STUDY
from tests.studies.helpers import color_context, trained_configs


def rows(*accuracies: tuple[int, int, int, float]) -> list[Row]:
    names = ("epochs", "batch", "seed", "linear")
    return [{**dict(zip(names, line, strict=True)), "knn": 0.5} for line in accuracies]


def test_orderings_of_the_paper_hold_where_they_do() -> None:
    found = STUDY.findings(
        rows(
            (5, 64, 0, 0.3), (5, 64, 1, 0.5), (5, 512, 0, 0.4), (5, 512, 1, 0.6),
            (40, 64, 0, 0.7), (40, 64, 1, 0.8), (40, 512, 0, 0.71), (40, 512, 1, 0.81),
        )
    ).orderings  # fmt: skip
    # The seeds are further apart than the batches.
    assert [ordering.holds for ordering in found] == [None, True, True]
    # 10 points for both seeds against 1, however far apart the seeds are.
    assert found[1].numbers == "10.0 ± 0.0 against 1.0 ± 0.0"


def test_only_rows_that_both_groups_have_are_compared() -> None:
    found = STUDY.findings(rows((5, 64, 0, 0.3), (5, 512, 1, 0.4), (40, 64, 0, 0.5))).orderings
    assert [ordering.holds for ordering in found] == [None, None, True]
    assert found[2].numbers == "50.0 against 30.0, of a single seed"


def test_without_a_lead_the_ordering_is_inconclusive() -> None:
    found = STUDY.findings(
        rows((5, 64, 0, 0.5), (5, 512, 0, 0.4), (40, 64, 0, 0.6), (40, 512, 0, 0.4))
    )
    assert found.orderings[1].holds is None
    assert found.orderings[1].numbers == "there is no lead: -10.0"


@pytest.mark.parametrize("scale", ["tiny", "cpu", "paper"])
def test_short_trainings_come_first(scale: str) -> None:
    epochs = [variant["epochs"] for variant in STUDY.variants(scale)]  # type: ignore[arg-type]
    assert epochs == sorted(epochs)


def test_epochs_and_batch_are_those_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = trained_configs(monkeypatch, batch_epochs)
    STUDY.measure(Cell({"epochs": 3, "batch": 32}, seed=0), color_context())
    (config,) = configs
    assert (config.epochs, config.batch_size) == (3, 32)
    assert (config.optim.learning_rate, config.optim.scaling) == (0.075, "sqrt")
