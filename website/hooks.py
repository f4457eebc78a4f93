"""Hooks of the site: pages from the root, links out of docs/, equations, the front page.

The pages are plain Markdown that GitHub shows as well; what the site needs beyond that is here.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from ziamath.config import config as drawing
from ziamath.zmath import Latex

ROOT = Path(__file__).parents[1]
PAGES = {
    name: name.lower() for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
}  # of the root

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

drawing.svg2 = False  # symbols are drawn in place: ids would clash between equations
drawing.precision = 2
_SIZE = 20.0  # points per em, of which the picture's size is a multiple


@event_priority(100)  # before mkdocstrings copies the extensions
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add fences of equations."""
    fence = {"name": "math", "class": "math", "format": equation}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the site; the front page has no sidebars."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation", "toc"]
    name = page.file.src_uri
    sources = {site: source for source, site in PAGES.items()}
    source = sources.get(name, f"docs/{name}")

    def pointed(match: re.Match[str]) -> str:
        return link(*match.groups(""), source=source, name=name, repository=config.repo_url)

    parts = re.split(f"({FENCE.pattern})", markdown, flags=FENCE.flags)
    parts[::2] = [LINK.sub(pointed, part) for part in parts[::2]]  # the others are code
    return "".join(parts)


def link(
    text: str, path: str, anchor: str, *, source: str, name: str, repository: str | None
) -> str:
    """Return a link of a repository's file as one of the site.

    Args:
        text: What is linked.
        path: Relative to the file, or a URL.
        anchor: With its #, or empty.
        source: The file's path in the repository.
        name: Its path in the site's sources.
        repository: URL of the repository, to whose files a link then points. None: files that are
            no pages, such as sources, are named and not linked.
    """
    if "://" in path:
        return f"[{text}]({path}{anchor})"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if target in PAGES or target.startswith("docs/"):
        inner = PAGES.get(target, target.removeprefix("docs/"))
        relative = posixpath.relpath(inner, posixpath.dirname(name) or ".")
        if text == posixpath.basename(path):
            text = title(ROOT / target)
        return f"[{text}]({relative}{anchor})"
    return f"[{text}]({repository}/blob/main/{target}{anchor})" if repository else text


def title(page: Path) -> str:
    """Return a page's first heading."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def equation(tex: str, *_: Any, **__: Any) -> str:
    """Return an equation in TeX as SVG, as a fence of superfences.

    Raises:
        PluginError: If there is a command that is not known.
    """
    spaced = tex.replace(r"\bmod", r"\;\mathrm{mod}\;").replace("= -", "= {-}")
    drawn = Latex(spaced, size=_SIZE, color="currentColor")
    if unknown := re.findall(r"\\[A-Za-z]+", drawn.mathmlstr()):
        raise PluginError(f"unknown in an equation: {', '.join(unknown)}\n{tex}")
    svg = drawn.svgxml()
    for side in ("width", "height"):
        svg.set(side, f"{float(svg.attrib[side]) / _SIZE:.3f}em")
    svg.set("role", "img")
    svg.set("aria-label", tex)
    return f'<div class="equation">{ElementTree.tostring(svg, encoding="unicode")}</div>'
