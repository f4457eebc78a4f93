"""A Griffe extension: docstrings as Markdown, from the forms in which `help()` shows them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import griffe
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
ROLE = re.compile(r":(?:class|func|meth|mod):`~?([\w.]+)`")
EQUATION = re.compile(r"^( *)\.\. math:: (.*(?:\n\1 +\S.*)*)", re.MULTILINE)
EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
GUIDE = re.compile(r"(?<![\w/])docs/(\w+\.md)")
PLACEHOLDER = re.compile(r"(`[^`]+`)|<(\w+)>")  # which HTML would take for a tag
ERROR = re.compile(r"^( +)(\w+): ", re.MULTILINE)
ERRORS = "simclr_ext.options.errors"
_slug = slugify(case="lower")


class Docstrings(griffe.Extension):
    """Changes each docstring after it was read."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Change an object's docstring."""
        if not obj.docstring:
            return
        public = loader.modules_collection["simclr_ext"].members
        text = markdown(obj.docstring.value, obj.module.path, public)
        # Errors that a module does not import are named without their module.
        errors = loader.modules_collection[ERRORS].members
        obj.docstring.value = ERROR.sub(
            lambda line: f"{line[1]}{ERRORS}.{line[2]}: " if line[2] in errors else line[0], text
        )


def markdown(text: str, module: str, public: Collection[str] = ()) -> str:
    """Return a docstring with links, equations and sections as the site has them.

    Args:
        text: The docstring.
        module: Whose a short name is,
        public: unless it is among these, which are the package's.
    """

    def reference(role: re.Match[str]) -> str:
        name = role[1]
        short = not name.startswith("simclr_ext.")
        owner = ("simclr_ext." if name in public else f"{module}.") if short else ""
        return f"[`{name.rpartition('.')[2]}`][{owner}{name}]"

    text = ROLE.sub(reference, text)
    text = EQUATION.sub(_fence, text)
    text = PLACEHOLDER.sub(lambda found: found[1] or f"&lt;{found[2]}&gt;", text)
    text = EXAMPLE.sub(r"\1Examples:", text)  # by which Griffe knows the section
    return GUIDE.sub(lambda guide: _page(guide[1]), text)


def _fence(equation: re.Match[str]) -> str:
    indent, tex = equation.groups()
    lines = "\n".join(f"{indent}{line.strip()}" for line in tex.splitlines())
    return f"{indent}```math\n{lines}\n{indent}```"


def _page(guide: str) -> str:
    """Return a link to a guide by the anchor of its title."""
    title = (ROOT / "docs" / guide).read_text(encoding="utf-8").partition("\n")[0].strip("# ")
    return f"[{title}][{_slug(title, '-')}]"
