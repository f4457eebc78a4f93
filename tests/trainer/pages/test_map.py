"""map.html: what it contains, and how it behaves in a browser, if there is one."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from simclr_ext.trainer.pages.map import ImageMap, map_page
from simclr_ext.trainer.pages.thumbnails import shrink
from tests.browser import CHROMIUM, Page, chromium

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\u2028\udc80.png"
SIDE = 7  # the points are a grid
COUNT = SIDE * SIDE
RED = (200, 60, 60)  # of image 40, in the second row of its sheet; the others are gray


def image_map(**changes: Any) -> ImageMap:
    """A grid of points, row by row from the bottom; the neighbors of i are i + 1 and i + 2."""
    rows, columns = np.divmod(np.arange(COUNT), SIDE)
    images = torch.full((COUNT, 3, 8, 8), 128, dtype=torch.uint8)
    images[40] = torch.tensor(RED)[:, None, None]
    values: dict[str, Any] = {
        "title": "Map of a<b",
        "note": "49 images & more",
        "positions": np.stack([columns, rows], axis=1).astype(np.float32) * 3 - 7,
        "thumbnails": shrink(images),
        "names": [f"cat/{row}.png" for row in range(COUNT - 1)] + [HOSTILE],
        "neighbors": (np.arange(COUNT)[:, None] + [1, 2]) % COUNT,
        "classes": np.arange(COUNT) % 2,
        "class_names": ["even", "<b>odd</b>"],
        "labels": 2,
        **changes,
    }
    return ImageMap(**values)


def embedded(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*)</script>', page)
    data: dict[str, Any] = json.loads(text)
    return data


def test_page_contains_the_data_and_asks_for_nothing() -> None:
    page = map_page(image_map())
    data = embedded(page)
    assert data["names"][-1] == HOSTILE
    assert data["neighbors"][3] == [4, 5]
    assert data["classes"] == [row % 2 for row in range(COUNT)]
    assert "<title>Map of a&lt;b</title>" in page
    assert "49 images &amp; more" in page
    assert HOSTILE not in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|<link", page)
    page.encode()  # can be written, whatever file names are


def test_positions_fill_the_unit_square_at_one_scale_upward() -> None:
    positions = np.array([[0, 0], [10, 2], [4, 1]], np.float32)
    changes = {"positions": positions, "neighbors": np.zeros((3, 0), np.int64)}
    data = embedded(map_page(image_map(**changes)))
    assert data["positions"] == pytest.approx([0, 0.6, 1, 0.4, 0.4, 0.5])
    equal = embedded(map_page(image_map(positions=np.ones((2, 2), np.float32))))
    assert equal["positions"] == [0.5] * 4


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page at desktop or, with the parameter "phone", at a phone's width."""
    path = tmp_path / "map.html"
    path.write_text(map_page(image_map()), encoding="utf-8")
    if getattr(request, "param", "") == "phone":
        browser.open(path, 390, 844, touch=True)
    else:
        browser.open(path)
    yield browser
    assert browser.faults == []


def place(page: Page, image: int) -> tuple[float, float]:
    """Return where in the window the point of an image is."""
    left, top = page.run(f"map.place({image})")
    box = page.run("map.canvas.getBoundingClientRect().toJSON()")
    return box["x"] + left, box["y"] + top


def text(page: Page, selector: str) -> str:
    content: str = page.run(f"document.querySelector({selector!r}).innerText")
    return content


def names(page: Page, part: str) -> list[str]:
    """Return the names of the images that are listed."""
    buttons = f"[...document.querySelectorAll('#{part} button span:last-child')]"
    listed: list[str] = page.run(f"{buttons}.map((span) => span.firstChild.textContent)")
    return listed


def pixels(page: Page) -> NDArray[np.int64]:
    """Return what the window shows, [height, width, 3]."""
    return np.array(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(np.int64)


def around(picture: NDArray[Any], center: tuple[float, float]) -> NDArray[Any]:
    x, y = map(round, center)
    return picture[y - 20 : y + 20, x - 20 : x + 20]


def test_hover_shows_the_image(page: Page) -> None:
    assert page.run("document.getElementById('tip').hidden")
    page.move(*place(page, 40))
    assert text(page, "#tip") == "cat/40.png\neven"
    box = page.run("document.querySelector('#tip .thumb').getBoundingClientRect().toJSON()")
    assert box["width"] == box["height"] == 128
    x, y = int(box["x"]), int(box["y"])
    inside = pixels(page)[y + 16 : y + 112, x + 16 : x + 112]  # WebP mixes color at the borders
    assert np.abs(inside - RED).max() < 12
    page.move(5, 5)
    assert page.run("document.getElementById('tip').hidden")


def test_click_lists_and_marks_the_neighbors(page: Page) -> None:
    points = [place(page, image) for image in range(COUNT)]
    before = pixels(page)
    page.click(*points[24])
    assert text(page, ".chosen") == "cat/24.png\neven"
    assert names(page, "selection") == ["cat/25.png", "cat/26.png"]
    kinds = page.run("[...document.querySelectorAll('#selection button')].map((b) => b.className)")
    assert kinds == ["other", "same"]
    assert "\u2260 <b>odd</b>" in text(page, "#selection")
    page.move(5, 5)
    after = pixels(page)
    changed = (before != after).any(axis=2)
    above = [around(changed, at)[:10, 18:22].any() for at in points]  # beyond point and line
    assert np.flatnonzero(above).tolist() == [24, 25, 26]
    page.run("document.querySelector('#selection button').click()")
    assert text(page, ".chosen") == "cat/25.png\n<b>odd</b>"
    x, y = points[24]
    page.click(x + 40, y + 40)
    assert names(page, "selection") == []


def test_search_finds_names(page: Page) -> None:
    page.run("document.getElementById('search').focus()")
    page.type("CAT/1")
    assert text(page, "#found") == "11 of 49 images match"
    expected = [f"cat/{row}.png" for row in (1, *range(10, 20))]
    assert names(page, "results") == expected
    faint, full = (around(pixels(page), place(page, image)) for image in (4, 10))
    assert full.min() < 150 < faint.min()
    page.type("0.png")
    assert names(page, "results") == ["cat/10.png"]
    page.press("Enter")
    assert text(page, ".chosen") == "cat/10.png\neven"


def test_a_name_that_is_code_is_shown_as_text(page: Page) -> None:
    page.run("document.getElementById('search').focus()")
    page.type("onerror")
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.querySelector('#results button span + span').textContent").startswith(
        "</script><img src=x onerror=alert(1)>&amp;"
    )


def test_legend_switches_classes_off_and_on(page: Page) -> None:
    assert text(page, "#legend").split("\n") == ["even", "25", "<b>odd</b>", "24"]

    def drawn() -> list[bool]:
        picture = pixels(page)
        return [bool(np.ptp(around(picture, place(page, image))) > 50) for image in (0, 1)]

    assert drawn() == [True, True]
    page.run("document.querySelector('#legend input').click()")
    assert drawn() == [False, True]
    page.move(*place(page, 0))
    assert page.run("document.getElementById('tip').hidden")  # what is hidden is not found
    page.run("document.getElementById('none').click()")
    assert drawn() == [False, False]
    page.run("document.getElementById('all').click()")
    assert drawn() == [True, True]


def test_wheel_zooms_at_the_pointer_and_dragging_moves(page: Page) -> None:
    x, y = place(page, 8)
    gap = place(page, 9)[0] - x
    page.wheel(x, y, -300)
    assert place(page, 8) == pytest.approx((x, y), abs=1)
    assert place(page, 9)[0] - x > 1.5 * gap
    page.drag((x, y), (x + 30, y - 20), (x + 50, y - 30))
    assert place(page, 8) == pytest.approx((x + 50, y - 30), abs=1)
    assert names(page, "selection") == []  # a drag is no click
    page.run("document.getElementById('fit').click()")
    assert place(page, 8) == pytest.approx((x, y), abs=1)


def test_keys_move_zoom_and_select(page: Page) -> None:
    page.run("map.canvas.focus()")
    (x, y), (right, _) = place(page, 24), place(page, 25)
    page.press("+")
    assert place(page, 25)[0] - x == pytest.approx(1.5 * (right - x), abs=1)
    assert text(page, "#tip") == "cat/24.png\neven"  # the nearest to the middle
    page.press("ArrowRight")
    assert place(page, 24) == pytest.approx((x - 60, y), abs=1)
    page.press("Enter")
    assert text(page, ".chosen") == "cat/24.png\neven"
    page.press("Escape")
    assert names(page, "selection") == []
    page.press("0")
    assert place(page, 24) == pytest.approx((x, y), abs=1)


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_fingers_select_move_and_zoom(page: Page) -> None:
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.run("map.canvas.clientWidth") == 390  # the lists are below it
    x, y = place(page, 24)
    page.touch(((x + 8, y + 8),))
    assert text(page, ".chosen") == "cat/24.png\neven"
    assert page.run("document.getElementById('tip').hidden")
    page.touch(((x, y),), ((x + 30, y + 10),), ((x + 60, y + 20),))
    assert place(page, 24) == pytest.approx((x + 60, y + 20), abs=1)
    page.touch(((x - 60, y - 20),), ((x - 120, y - 40),))
    assert place(page, 24) == pytest.approx((x, y), abs=1)
    gap = place(page, 25)[0] - x
    page.touch(((x - 20, y), (x + 20, y)), ((x - 40, y), (x + 40, y)))
    assert place(page, 24) == pytest.approx((x, y), abs=1)
    assert place(page, 25)[0] - x == pytest.approx(2 * gap, abs=1)


@pytest.mark.parametrize(("labels", "heading"), [(0, "Clusters"), (1, "Classes")])
def test_only_labels_are_compared(browser: Page, tmp_path: Path, labels: int, heading: str) -> None:
    path = tmp_path / "map.html"
    changes = {"labels": labels, "class_names": ["cluster 1", "no label"]}
    path.write_text(map_page(image_map(**changes)), encoding="utf-8")
    browser.open(path)
    assert heading in text(browser, "aside")
    browser.click(*place(browser, 3))
    assert "\u2260" not in text(browser, "#selection")
    assert browser.run("document.querySelectorAll('.same, .other').length") == 0
    assert browser.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_points_stand_out(page: Page, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.call("Emulation.setEmulatedMedia", features=[feature])
    picture = pixels(page)
    paper = picture[90, 5]
    assert (paper.min() > 200) == (scheme == "light")
    box = page.run("document.querySelector('h1').getBoundingClientRect().toJSON()")
    heading = picture[int(box["y"]) : int(box["bottom"]), int(box["x"]) : int(box["x"]) + 90]
    assert np.abs(heading - paper).max() > 150
    point = around(picture, place(page, 0))
    assert np.abs(point - paper).max() > 100
    page.call("Emulation.setEmulatedMedia", features=[])
