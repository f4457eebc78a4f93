"""Names and paths in docs and docstrings exist: a move that forgets one fails a test."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_THE_ROOT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
GUIDES = [*OF_THE_ROOT, *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "simclr_ext").rglob("*.py"))
SOURCES = ("cpp", "cu", "cuh", "h", "inl", "py")  # files that a text may name by the end of a path

NAME = re.compile(r"(?<![\w./-])simclr_ext(?:\.[A-Za-z]\w*)+")
IMPORT = re.compile(r"from (simclr_ext[\w.]*) import (\([^)]*\)|[^\n]*)")
PATH = re.compile(rf"`([\w./-]+\.(?:{'|'.join(SOURCES)}))`")
FOLDER = re.compile(
    r"(?<![\w./-])((?:simclr_ext|csrc|tests|benchmarks|docs|examples)/[\w/]*/|[a-z]+/(?=  ))"
)
DEFINED = re.compile(r"`(\w+)`,? (?:of|in) `([\w./]+\.py)`")
LINK = re.compile(r"\]\(([^)\s#]*)(#[^)\s]*)?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def faults(text: str, file: Path) -> list[str]:
    """Return the names in a text that do not exist."""
    return [*_names(text), *_imports(text), *_paths(text), *_links(text, file)]


def _names(text: str) -> Iterator[str]:
    """Yield the dotted names that cannot be imported, operators of torch aside."""
    for name in set(NAME.findall(text)):
        if not exists(name) and f"torch.ops.{name}" not in text:
            yield name


def _imports(text: str) -> Iterator[str]:
    for module, names in IMPORT.findall(text):
        for name in re.findall(r"\w+", re.sub(r"#.*| as \w+", "", names)):
            if not exists(f"{module}.{name}"):
                yield f"from {module} import {name}"


def _paths(text: str) -> Iterator[str]:
    """Yield files that are nowhere, folders that are not there, and names that no such file has."""
    named = (path for path in PATH.findall(text) if "NAME" not in path)  # which stands for any
    yield from (path for path in named if not found(path))
    yield from (folder for folder in FOLDER.findall(text) if not (ROOT / folder).is_dir())
    for name, path in DEFINED.findall(text):
        if found(path) and not any(re.search(rf"\b{name}\b", f.read_text()) for f in found(path)):
            yield f"{name} of {path}"


def _links(text: str, file: Path) -> Iterator[str]:
    for path, heading in LINK.findall(text):
        target = file.parent / path if path else file
        if "://" in path:
            continue
        if not target.exists() or (heading and heading not in anchors(target)):
            yield f"{path}{heading}"


def exists(name: str) -> bool:
    """Return whether a dotted name can be imported, in full or as what a module or class has."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[count:]:
            if not hasattr(value, attribute):
                return attribute in getattr(value, "__annotations__", {})
            value = getattr(value, attribute)
        return True
    return False


def found(end: str) -> list[Path]:
    """Return the files whose path ends like this."""
    return [path for path in files() if f"/{path.relative_to(ROOT)}".endswith(f"/{end}")]


@cache
def files() -> list[Path]:
    folders = ("simclr_ext", "csrc", "tests", "benchmarks", "docs", "examples", "website")
    inner = (path for folder in folders for path in (ROOT / folder).rglob("*.*"))
    return [*ROOT.glob("*.*"), *inner]


def anchors(file: Path) -> set[str]:
    """Return the links to a guide's headings, as GitHub makes them."""
    titles = HEADING.findall(file.read_text(encoding="utf-8"))
    return {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def docstrings(file: Path) -> str:
    """Return the docstrings of a module, and its other strings that stand alone."""
    tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    strings = (node.value for node in tree if isinstance(node, ast.Expr))
    return "\n\n".join(
        text.value
        for text in strings
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    )


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_guides_name_what_is_there(guide: Path) -> None:
    assert faults(guide.read_text(encoding="utf-8"), guide) == []


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_docstrings_name_what_is_there(module: Path) -> None:
    assert list(_names(docstrings(module))) + list(_imports(docstrings(module))) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("see `simclr_ext.trainer.nowhere`", "simclr_ext.trainer.nowhere"),
        ("see :func:`simclr_ext.losses.nt_xant`", "simclr_ext.losses.nt_xant"),
        ("`simclr_ext.trainer.TrainConfig.epoch`", "simclr_ext.trainer.TrainConfig.epoch"),
        (
            "from simclr_ext import (\n    nt_xent_loss,\n    gone,\n)",
            "from simclr_ext import gone",
        ),
        ("`trainer/run.py` does it", "trainer/run.py"),
        ("    simclr_ext/models/    encoders", "simclr_ext/models/"),
        ("`nobody` of `config/presets.py`", "nobody of config/presets.py"),
        ("[design](design.py)", "design.py"),
        ("[design](docs/design.md#nowhere)", "docs/design.md#nowhere"),
    ],
)
def test_what_is_not_there_is_found(text: str, fault: str) -> None:
    assert faults(text, ROOT / "README.md") == [fault]


def test_what_is_there_is_not_a_fault() -> None:
    text = """
    `simclr_ext.trainer.TrainConfig.epochs`, `torch.ops.simclr_ext.nt_xent_forward`,
    `csrc/simclr_ext.h`, `csrc/kernels_NAME.cu`, `DEMO` of `config/presets.py`,
    [math](docs/math.md#what-is-not-this-loss),
    simclr_ext/trainer/
    """
    assert faults(text, ROOT / "README.md") == []
