"""Histograms of crops: their counts, and that only color distortion makes the difference."""

import dataclasses

import numpy as np
import pytest
import torch

from simclr_ext.studies.engine.study import Cell, Row
from simclr_ext.studies.paper.color_histograms import STUDY, _histograms, recognized
from simclr_ext.trainer.config import AugmentConfig
from tests.studies.helpers import color_context


def measure(distortion: str, seed: int = 0, augment: AugmentConfig | None = None) -> list[Row]:
    cell, context = Cell({"distortion": distortion}, seed), color_context()
    if augment is not None:
        config = dataclasses.replace(context.config, augment=augment)
        context = dataclasses.replace(context, config=config)
    return [{**cell.variant, "seed": seed, **row} for row in STUDY.measure(cell, context)]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [*measure("none"), *measure("color")]


def test_histograms_are_numpys() -> None:
    views = torch.rand(5, 3, 7, 6, generator=torch.Generator().manual_seed(0))
    views[0] = 1.0  # the top of the last bin
    views[1] = 0.0
    ours = _histograms(views)
    for view, histogram in zip(views.numpy(), ours, strict=True):
        theirs, _ = np.histogram(view, bins=32, range=(0, 1))
        np.testing.assert_allclose(histogram, theirs / view.size)


def test_a_crop_is_recognized_by_the_nearest_histogram() -> None:
    first = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert recognized(torch.cat([first, first])) == 1
    assert recognized(torch.cat([first, first.roll(1, dims=0)])) == 0
    # Image 0 is recognized in both crops; 1 and 2 are mistaken for one another.
    assert recognized(torch.cat([first, first[[0, 2, 1]]])) == pytest.approx(2 / 6)


def test_rows_hold_all_that_is_drawn(rows: list[Row]) -> None:
    for distortion in ("none", "color"):
        own = [row for row in rows if row["distortion"] == distortion]
        assert sum("recognized" in row for row in own) == 1
        assert sum("png" in row for row in own) == 2 * (1 + 4)
        shares = [float(row["share"]) for row in own if "share" in row]
        assert len(shares) == 2 * 4 * 32
        assert sum(shares) == pytest.approx(2 * 4)
    figure = STUDY.draw(rows)
    assert len(figure.get_axes()) == 2 * (1 + 2 * (4 + 1))


def test_color_distortion_hides_which_image_a_crop_is_of(rows: list[Row]) -> None:
    (ordering,) = STUDY.findings(rows).orderings
    assert ordering.holds is True
    plain, distorted = (float(row["recognized"]) for row in rows if "recognized" in row)
    assert plain > 0.5
    assert distorted < 0.5 * plain


def test_crops_are_equal_but_for_their_colors(rows: list[Row]) -> None:
    still = AugmentConfig(flip_probability=0.5, jitter_probability=0, grayscale_probability=0)
    plain = measure("none", augment=still)
    assert plain == [row for row in rows if row["distortion"] == "none"]
    changed = measure("color", augment=still)
    assert [{**row, "distortion": "none"} for row in changed] == plain
    assert measure("none", seed=1, augment=still) != plain


def test_one_distortion_alone_is_drawn_too(rows: list[Row]) -> None:
    own = [row for row in rows if row["distortion"] == "color"]
    assert len(STUDY.draw(own).get_axes()) == 2 * (1 + 4 + 1)
    (ordering,) = STUDY.findings(own).orderings
    assert ordering.holds is None
