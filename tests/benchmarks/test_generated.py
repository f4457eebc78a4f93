"""Text that scripts write into the docs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import generated
from benchmarks.gpu import model


def test_only_the_text_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    other = f"{generated.marker('b.py')}\nkept\n{generated.END}\n"
    page.write_text(f"before\n{generated.marker('a.py')}\nold\n{generated.END}\nafter\n{other}")
    for _ in range(2):  # again, the same
        generated.write(page, "a.py", "\nnew\n")
        assert page.read_text() == (
            f"before\n{generated.marker('a.py')}\n\nnew\n\n{generated.END}\nafter\n{other}"
        )


def test_a_page_without_the_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(generated.marker("a.py"))
    with pytest.raises(ValueError, match=r"page\.md must have the lines <!-- generated"):
        generated.write(page, "a.py", "new")
    assert page.read_text() == generated.marker("a.py")


def test_the_page_of_the_kernels_has_the_prediction_of_the_counts_beside_it() -> None:
    _, _, rest = generated.CUDA_PAGE.read_text().partition(generated.marker("gpu.model"))
    assert rest.partition(generated.END)[0].strip() == model.report(model.SASS)


def test_the_page_of_the_kernels_has_the_counts() -> None:
    _, begin, rest = generated.CUDA_PAGE.read_text().partition(generated.marker("gpu.sass_report"))
    assert begin
    shown = [line.split(" | ") for line in rest.partition(generated.END)[0].splitlines()[3:]]
    with model.SASS.open(newline="") as file:
        counted = {
            (row["kernel"], row["precision"], row["dim"]): row["registers"]
            for row in csv.DictReader(file)
            if row["arch"] == "sm_80" and row["shared_shift"] == "True"
        }
    kernels = [tuple(cells[1:4]) for cells in shown if len(cells) > 1]
    assert len(kernels) == 2 * sum(map(len, generated.SHOWN_DIMS.values()))
    assert all(counted[tuple(cells[1:4])] == cells[5] for cells in shown if len(cells) > 1)
