"""The documentation site builds without a warning, is whole without a network, and fits phones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import simclr_ext
import simclr_ext.bench
import simclr_ext.studies
import simclr_ext.trainer
from tests.browser import CHROMIUM, Page, chromium

NEEDED = "the site needs the packages of the extra dev"
pytest.importorskip("material", reason=NEEDED)
pytest.importorskip("mkdocstrings", reason=NEEDED)
hooks = pytest.importorskip("website.hooks", reason=NEEDED)
docstrings = pytest.importorskip("website.docstrings", reason=NEEDED)

ROOT = Path(__file__).parents[1]
PAGES = ("index", "swap", "benchmarks", "gallery", "math", "api/loss", "api/config")
WIDTHS = {"desktop": 1280, "phone": 390}
PACKAGES = (simclr_ext, simclr_ext.bench, simclr_ext.studies, simclr_ext.trainer)
# Right of the window, and not in a part that scrolls by itself.
OUTSIDE = """
    [...document.querySelectorAll(".md-content *")]
        .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
        .filter((e) => !e.closest(".md-typeset__scrollwrap, pre, .equation, p:has(> img)"))
        .map((e) => `${e.tagName}: ${e.textContent.slice(0, 40)}`)
"""
FOUND = """
    new Promise((done) => {
        const look = () => {
            const links = [...document.querySelectorAll(".md-search-result__link")];
            const over = links.length || performance.now() > 60000;
            over ? done(links.map((link) => link.href)) : setTimeout(look, 50);
        };
        look();
    })
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out)
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # which is of the theme, not of the pages
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # not --quiet, which ignores warnings
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    pages = [file.read_text(encoding="utf-8") for file in (site / "api").glob("*.html")]
    found = {name for text in pages for name in re.findall(r'id="(simclr_ext[\w.]*)"', text)}
    names = {f"{package.__name__}.{name}" for package in PACKAGES for name in package.__all__}
    assert names - found == {"simclr_ext.__version__"}


def test_docstrings_have_no_markup_left(site: Path) -> None:
    for file in (site / "api").glob("*.html"):
        text = re.sub(r"<(code|pre)\b.*?</\1>", "", file.read_text(encoding="utf-8"), flags=re.S)
        assert re.findall(r":\w+:`|\.\. \w+::|^ *&gt;&gt;&gt;|::: ", text, re.M) == [], file.name


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_window_and_asks_for_nothing(
    site: Path, page: Page, name: str, width: int
) -> None:
    page.faults.clear()
    page.open(site / f"{name}.html", width, 800, touch=width < 500)
    assert page.faults == []
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(OUTSIDE) == []


def test_search_works_in_a_page_that_is_opened_from_disk(site: Path, page: Page) -> None:
    page.open(site / "index.html")
    page.run('document.querySelector("[data-md-component=search-query]").focus()')
    page.type("gather_distributed")
    page.press("End")  # a search begins when a key is released
    assert any("/processes.html" in link for link in page.run(FOUND))


def test_an_equation_is_a_picture_with_its_tex_as_its_name() -> None:
    assert 'aria-label="s_i / T"' in hooks.equation("s_i / T")
    with pytest.raises(hooks.PluginError, match=r"\\nothing"):
        hooks.equation(r"\nothing{a}")


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (("text", "https://a.org", "#b"), "[text](https://a.org#b)"),
        (("text", "math.md", "#loss"), "[text](../math.md#loss)"),
        (("math.md", "../math.md", ""), "[The mathematics](../math.md)"),
        (("how", "../../CONTRIBUTING.md", ""), "[how](../contributing.md)"),
        (("`x.py`", "../../benchmarks/x.py", ""), "`x.py`"),
    ],
)
def test_links_of_the_repository_are_links_of_the_site(
    link: tuple[str, str, str], expected: str
) -> None:
    place = "docs/math.md" if link[1] == "math.md" else "docs/adr/x.md"
    assert hooks.link(*link, source=place, name="adr/x.md", repository=None) == expected


def test_links_to_sources_lead_to_the_repository_if_there_is_one() -> None:
    place = {"source": "docs/x.md", "name": "x.md", "repository": "https://a.org/b"}
    assert hooks.link("x", "../csrc/x.h", "", **place) == "[x](https://a.org/b/blob/main/csrc/x.h)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see :func:`~simclr_ext.nt_xent_loss`", "see [`nt_xent_loss`][simclr_ext.nt_xent_loss]"),
        ("see :func:`load`", "see [`load`][here.load]"),
        ("see :class:`Public`", "see [`Public`][simclr_ext.Public]"),
        ("    .. math:: a\n        b\n\n    c", "    ```math\n    a\n    b\n    ```\n\n    c"),
        ("runs/<data>, `<a>`", "runs/&lt;data&gt;, `<a>`"),
        ("Example:\n    >>> 1", "Examples:\n    >>> 1"),
        ("see docs/images.md", "see [Your own images][your-own-images]"),
    ],
)
def test_docstrings_become_markdown(text: str, expected: str) -> None:
    assert docstrings.markdown(text, "here", {"Public"}) == expected
