"""The examples run and learn; the line that each replaces computes the same losses."""

from __future__ import annotations

import csv
import importlib
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import simclr_ext

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
PAGE = ROOT / "docs" / "examples.md"
NOTEBOOK = FOLDER / "your_images.ipynb"
# The packages of each, and the steps and the loss in them that a test of seconds reaches.
EXAMPLES: dict[str, tuple[tuple[str, ...], int, float]] = {
    "clip_two_towers": ((), 40, 1.0),
    "hugging_face_trainer": (("transformers", "accelerate"), 20, 0.5),
    "lightly_simclr": (("lightly",), 12, 4.4),
    "lightning_module": (("lightning",), 30, 5.7),
    "moco_queue": ((), 30, 5.5),
    "plain_pytorch": ((), 30, 5.7),
    "sup_con_digits": ((), 30, 4.8),
}
REASON = "{} is not installed: make extras"


def load(example: str) -> ModuleType:
    for package in EXAMPLES[example][0]:
        pytest.importorskip(package, reason=REASON.format(package))
    return importlib.import_module(f"examples.{example}")


def diff(text: str) -> list[tuple[str, str]]:
    """Return the replaced lines of a text, each with the one that takes its place."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = pairwise(lines)
    return [(a[1:], b[1:]) for a, b in pairs if a.startswith("-") and b.startswith("+")]


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).mT


def names_of(example: str, *z: Tensor, **options: Any) -> dict[str, Any]:
    """Return what the replaced line of an example names, from the arguments of the new one."""
    if example in ("sup_con_digits", "lightning_module"):
        reason = "pytorch-metric-learning is not installed"
        losses = pytest.importorskip("pytorch_metric_learning.losses", reason=reason)
        return {**vars(losses), **dict(zip(("features", "labels"), z, strict=False))}
    if example == "plain_pytorch":
        stacked = torch.cat(z)
        positives = torch.arange(len(stacked)).roll(len(z[0]))
        return {"cosines": cosines(stacked, stacked), "positives": positives, "inf": torch.inf}
    if example == "clip_two_towers":
        return {"logits": options["logit_scale"] * cosines(*z), "rows": torch.arange(len(z[0]))}
    if example == "moco_queue":
        return {
            "positive": F.cosine_similarity(*z[:2])[:, None],
            "queries": F.normalize(z[0]),
            "queue": F.normalize(options["negatives"]),
            "zeros": torch.zeros(len(z[0]), dtype=torch.long),
        }
    return {"cosines": cosines(*z[:2])} if example == "hugging_face_trainer" else {}


def original(example: str) -> Callable[..., Any]:
    """Return the loss of the line that an example replaces."""
    ((line, _),) = diff(load(example).__doc__ or "")

    def loss(*args: Any, **options: Any) -> Any:
        tensors = (arg for arg in args if isinstance(arg, Tensor))
        names = {"F": F, "torch": torch, **names_of(example, *tensors, **options)}
        if line.startswith("from "):
            exec(line, names)
            return names["NTXentLoss"](*args, **options)
        return eval(line.partition(" = ")[2], names)

    return loss


def run(
    example: str, steps: int, monkeypatch: pytest.MonkeyPatch, loss: Callable[..., Any] | None
) -> tuple[list[float], Any]:
    """Return the losses of an example's steps and its result, with its own loss or another."""
    module = load(example)
    (name,) = set(vars(module)) & set(simclr_ext.__all__)
    used = loss or getattr(module, name)
    losses: list[float] = []

    def noting(*args: Any, **options: Any) -> Any:
        value = used(*args, **options)
        if isinstance(value, nn.Module):
            value.register_forward_hook(lambda *call: losses.append(call[2].item()))
        else:
            losses.append(value.item())
        return value

    monkeypatch.setattr(module, name, noting)
    result = module.main(steps=steps)
    assert len(losses) == steps
    return losses, result


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_learns(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, steps, bound = EXAMPLES[example]
    losses, accuracy = run(example, steps, monkeypatch, None)
    assert losses[-1] < bound < losses[0]
    if isinstance(accuracy, float):  # by chance: 0.1 of digits, 1 / 256 of pairs
        assert accuracy > 0.7


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_replaced_line_has_the_same_losses(
    example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The batch norm of lightly's head amplifies rounding. A temperature that is 2 % off is found.
    steps = 3 if example == "lightly_simclr" else 8
    ours, _ = run(example, steps, monkeypatch, None)
    monkeypatch.undo()
    theirs, _ = run(example, steps, monkeypatch, original(example))
    assert theirs == pytest.approx(ours, rel=1e-4)


def test_the_scale_of_clip_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("clip_two_towers")
    scales = []

    def noting(*args: Any, **options: Any) -> Tensor:
        scales.append(options["logit_scale"].item())
        return simclr_ext.info_nce_loss(*args, **options)

    monkeypatch.setattr(module, "info_nce_loss", noting)
    module.main(steps=3)
    assert scales[0] == pytest.approx(1 / 0.07)
    assert abs(scales[2] - scales[0]) > 1e-3


def test_every_example_is_tested_and_short() -> None:
    files = {path.stem: path for path in FOLDER.glob("*.py") if path.stem != "__init__"}
    assert set(files) == set(EXAMPLES)
    for path in files.values():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 120, path.name


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_diff_is_that_of_the_page_and_of_the_code(example: str) -> None:
    text = (FOLDER / f"{example}.py").read_text(encoding="utf-8")
    (lines,) = diff(text)
    assert any(line.strip() == lines[1] for line in text.splitlines())
    section = PAGE.read_text(encoding="utf-8").partition(f"(../examples/{example}.py)")[2]
    assert diff(section.partition("\n## ")[0]) == [lines]


def test_the_notebook_is_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    assert NOTEBOOK.name in PAGE.read_text(encoding="utf-8")


def test_the_notebook_maps_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("ipykernel", "nbclient"):
        pytest.importorskip(package, reason=REASON.format(package))
    import nbclient
    import nbformat

    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    metadata = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=metadata).execute()

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output.data for cell in code for output in cell.outputs if "data" in output]
    assert ["image/png" in data for data in shown] == [True, True, False, True, False]
    for data, page in zip(shown[2::2], ("neighbors-6/neighbors", "pages-photos/map"), strict=True):
        assert f'src="run/{page}.html"' in data["text/html"]
        assert (tmp_path / "run" / f"{page}.html").exists()
    with (tmp_path / "run" / "neighbors-6" / "neighbors.csv").open(encoding="utf-8") as file:
        classes = [row["class"] for row in csv.DictReader(file) if row["rank"] != "1"]
    assert classes.count("6") > 0.8 * len(classes)  # a quarter, if by chance
