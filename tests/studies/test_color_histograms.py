"""Histograms of crops: what is counted, and that colour distortion alone makes the difference."""

import numpy as np
import pytest
import torch

from simclr_ext.studies.color_histograms import STUDY, _histograms, recognised
from simclr_ext.studies.study import Cell, Row
from tests.studies.helpers import colour_context


def measure(distortion: str, seed: int = 0) -> list[Row]:
    cell = Cell({"distortion": distortion}, seed)
    return [{**cell.variant, "seed": seed, **row} for row in STUDY.measure(cell, colour_context())]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [*measure("none"), *measure("colour")]


def test_histograms_are_numpys() -> None:
    views = torch.rand(5, 3, 7, 6, generator=torch.Generator().manual_seed(0))
    views[0] = 1.0  # the top of the last bin
    views[1] = 0.0
    ours = _histograms(views)
    for view, histogram in zip(views.numpy(), ours, strict=True):
        theirs, _ = np.histogram(view, bins=32, range=(0, 1))
        np.testing.assert_allclose(histogram, theirs / view.size)


def test_a_crop_is_recognised_by_the_nearest_histogram() -> None:
    first = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert recognised(torch.cat([first, first])) == 1
    assert recognised(torch.cat([first, first.roll(1, dims=0)])) == 0
    # Image 0 is recognised in both crops; 1 and 2 are mistaken for one another.
    assert recognised(torch.cat([first, first[[0, 2, 1]]])) == pytest.approx(2 / 6)


def test_rows_hold_all_that_is_drawn(rows: list[Row]) -> None:
    for distortion in ("none", "colour"):
        own = [row for row in rows if row["distortion"] == distortion]
        assert sum("recognised" in row for row in own) == 1
        assert sum("png" in row for row in own) == 2 * (1 + 4)
        shares = [float(row["share"]) for row in own if "share" in row]
        assert len(shares) == 2 * 4 * 32
        assert sum(shares) == pytest.approx(2 * 4)
    figure = STUDY.draw(rows)
    assert len(figure.get_axes()) == 2 * (1 + 2 * (4 + 1))


def test_colour_distortion_hides_which_image_a_crop_is_of(rows: list[Row]) -> None:
    (ordering,) = STUDY.findings(rows).orderings
    assert ordering.holds is True
    plain, distorted = (float(row["recognised"]) for row in rows if "recognised" in row)
    assert plain > 0.5
    assert distorted < 0.5 * plain


def test_crops_are_equal_but_for_their_colours(rows: list[Row]) -> None:
    def pictures(distortion: str) -> list[str]:
        return [str(r["png"]) for r in rows if r["distortion"] == distortion and "png" in r]

    same = [a == b for a, b in zip(pictures("none"), pictures("colour"), strict=True)]
    assert same[0]  # the images themselves
    assert same[5]
    # A fifth of the crops has no jitter, and four fifths of these keep their colour.
    assert not all(same)


def test_one_distortion_alone_is_drawn_too(rows: list[Row]) -> None:
    own = [row for row in rows if row["distortion"] == "colour"]
    assert len(STUDY.draw(own).get_axes()) == 2 * (1 + 4 + 1)
    (ordering,) = STUDY.findings(own).orderings
    assert ordering.holds is None
