"""Imports go one way: nothing imports what lies above it, not even inside a function."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the bottom to the top. Of a group, none imports another.
LAYERS = [
    [
        "simclr_ext.options",
        "simclr_ext._checks",
        "simclr_ext._build_config",
        "simclr_ext._errors",
        "simclr_ext._torch_compat",
    ],
    ["simclr_ext.backends"],
    ["simclr_ext.distributed"],
    [
        "simclr_ext.losses",
        "simclr_ext.jax",
        "simclr_ext.diagnostics",
        "simclr_ext.testing",
    ],
    ["simclr_ext.compat"],
    ["simclr_ext"],
    [
        "simclr_ext.bench",
        "simclr_ext.trainer.seeds",
        "simclr_ext.trainer.atomic",
        "simclr_ext.trainer.lock",
        "simclr_ext.trainer.progress",
        "simclr_ext.trainer.torchrun",
    ],
    ["simclr_ext.trainer.job"],
    ["simclr_ext.trainer.config"],
    ["simclr_ext.trainer.data"],
    ["simclr_ext.trainer.views", "simclr_ext.trainer.model"],
    ["simclr_ext.trainer.probes"],
    ["simclr_ext.trainer.training", "simclr_ext.trainer.pages"],
    ["simclr_ext.trainer.commands"],
    ["simclr_ext.trainer.api"],
    ["simclr_ext.trainer"],
    ["simclr_ext.studies.config"],
    ["simclr_ext.studies.engine"],
    ["simclr_ext.studies.material"],
    ["simclr_ext.studies.paper"],
    ["simclr_ext.studies"],
    ["simclr_ext.doctor"],
    ["simclr_ext.cli"],
    ["simclr_ext.__main__"],
]


def layer(module: str) -> tuple[int, str]:
    """Return the number of a module's layer and its place there: that of its longest prefix."""
    places = [(place, number) for number, places in enumerate(LAYERS) for place in places]
    place, number = max(
        (len(place), number) for place, number in places if f"{module}.".startswith(f"{place}.")
    )
    return number, module[:place]


def imported(source: str) -> Iterator[str]:
    """Yield the modules of this package that a source imports, anywhere."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                path = ROOT / name.replace(".", "/")
                is_module = path.is_dir() or path.with_suffix(".py").is_file()
                yield name if is_module else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def upward(module: str, source: str) -> list[str]:
    """Return what a module imports from above, or from a neighbor."""
    own, place = layer(module)
    names = {name for name in imported(source) if name.split(".")[0] == "simclr_ext"}
    found = {name: layer(name) for name in names}
    return sorted(name for name, (n, p) in found.items() if n > own or (n == own and p != place))


def modules() -> dict[str, Path]:
    paths = sorted((ROOT / "simclr_ext").rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return dict(zip((name.removesuffix(".__init__") for name in names), paths, strict=True))


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module: str) -> None:
    assert upward(module, modules()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("simclr_ext.losses", "from simclr_ext.trainer.config import TrainConfig"),
        ("simclr_ext.bench.command", "def f():\n    from simclr_ext.trainer import seeds"),
        ("simclr_ext.trainer.config.train", "from simclr_ext.trainer.data import Dataset"),
        ("simclr_ext.trainer.probes.knn", "import simclr_ext.trainer.training.loop"),
        ("simclr_ext.studies.engine.run", "from simclr_ext.studies.material import summary"),
    ],
)
def test_an_import_from_above_is_found(module: str, source: str) -> None:
    assert len(upward(module, source)) == 1
