"""Whole studies at the tiny scale: files, rows, reports; folders that can be resumed or not."""

import csv
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
import yaml

from simclr_ext import cli
from simclr_ext.options.errors import DataError, RunFolderError
from simclr_ext.studies import STUDIES, StudyConfig, run_study
from simclr_ext.studies.engine import run as run_module
from simclr_ext.studies.engine.report import write_results
from simclr_ext.studies.engine.run import StudyResult
from simclr_ext.studies.engine.scales import open_context
from simclr_ext.studies.engine.study import load_study
from simclr_ext.studies.engine.sweep import Outcome, outcomes
from simclr_ext.trainer.data import Dataset
from simclr_ext.trainer.lock import locked


@pytest.fixture(scope="module", params=STUDIES)
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    out = tmp_path_factory.mktemp("studies") / "out"
    return StudyConfig(request.param, out=str(out), threads=1)


@pytest.fixture(scope="module")
def result(config: StudyConfig) -> StudyResult:
    return run_study(config)


def cells_of(config: StudyConfig) -> list[Outcome]:
    return outcomes(config.folder, load_study(config.study).cells("tiny", seeds=2))


def test_every_cell_has_rows_and_every_row_is_in_the_table(
    config: StudyConfig, result: StudyResult
) -> None:
    assert (result.failed, result.exit_code) == ((), 0)
    cells = cells_of(config)
    study = load_study(config.study)
    assert len(cells) == len(study.variants("tiny")) * (2 if study.repeated else 1)
    with (result.folder / f"{config.study}.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    rows = [row for outcome in cells for row in outcome.rows]
    assert len(table) == len(rows) >= len(cells)
    for line, row in zip(table, rows, strict=True):
        assert {name: str(value) for name, value in row.items()} == {
            name: text for name, text in line.items() if text
        }


def test_the_report_has_question_table_picture_and_time(
    config: StudyConfig, result: StudyResult
) -> None:
    text = (result.folder / "report.md").read_text()
    study = load_study(config.study)
    assert text.startswith(f"# {study.title}: digits\n\n{study.question}\n")
    for part in (study.source, result.findings.table, f"({config.study}.png)", "Machine time: "):
        assert part in text
    assert all(ordering.claim in text for ordering in result.findings.orderings)
    assert "failed" not in text
    assert str(result).startswith(result.findings.table)


def test_the_picture_is_drawn_twice(config: StudyConfig, result: StudyResult) -> None:
    picture = matplotlib.image.imread(result.folder / f"{config.study}.png")
    assert len(np.unique(picture[::5, ::5, :3].reshape(-1, 3), axis=0)) > 10
    root = ElementTree.parse(result.folder / f"{config.study}.svg").getroot()
    assert len(list(root.iter())) > 50


def test_the_results_are_a_function_of_the_rows(
    config: StudyConfig, result: StudyResult, tmp_path: Path
) -> None:
    study = load_study(config.study)
    write_results(tmp_path, study, config, open_context(config), cells_of(config))
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (result.folder / path.name).read_bytes(), path.name


def test_results_do_without_the_cells_that_failed(
    config: StudyConfig, result: StudyResult, tmp_path: Path
) -> None:
    study, context, cells = load_study(config.study), open_context(config), cells_of(config)
    # Every other cell fails, then all but the first, then none: the rest must be enough each time.
    for broken in ({*range(0, len(cells), 2)}, {*range(1, len(cells))}, {*range(len(cells))}):
        error = "ValueError: it broke\n\nTraceback\n"
        partial = [
            Outcome(outcome.cell, error=error) if index in broken else outcome
            for index, outcome in enumerate(cells)
        ]
        write_results(tmp_path, study, config, context, partial)
        text = (tmp_path / "report.md").read_text()
        assert text.count(": ValueError: it broke") == len(broken)


HEAD = StudyConfig("projection-head", seeds=1, threads=1)


def test_a_study_is_resumed_and_others_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(HEAD, out=str(tmp_path / "out"))
    first = run_study(config)
    stamps = {path: path.stat().st_mtime_ns for path in (first.folder / "cells").iterdir()}
    (first.folder / "report.md").unlink()
    again = run_study(dataclasses.replace(config, jobs=2))
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert again.findings == first.findings
    assert (first.folder / "report.md").exists()
    run_study(dataclasses.replace(config, seeds=2))  # adds to what is there
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list((first.folder / "cells").iterdir())) == 2 * len(stamps)
    message = r"with other values: study \('projection-head' there, 'temperature' now\)$"
    with pytest.raises(RunFolderError, match=message):
        run_study(dataclasses.replace(config, study="temperature"))


def _other_test_label(data: Dataset) -> Dataset:
    labels = data.test.labels.clone()
    labels[0] = (labels[0] + 1) % len(data.class_names)
    test = dataclasses.replace(data.test, labels=labels)
    return dataclasses.replace(data, test=test)


def _with_unlabeled(data: Dataset) -> Dataset:
    train = data.train.with_unlabeled(data.train.images[:].flip(0))
    return dataclasses.replace(data, train=train)


@pytest.mark.parametrize("change", [_other_test_label, _with_unlabeled])
def test_other_images_or_labels_are_refused(
    change: Callable[[Dataset], Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "sweep", lambda *_: None)
    config = dataclasses.replace(HEAD, out=str(tmp_path / "out"))
    run_study(config)
    context = open_context(config)
    other = dataclasses.replace(context, data=change(context.data))
    monkeypatch.setattr(run_module, "open_context", lambda _: other)
    with pytest.raises(RunFolderError, match="other values: images"):
        run_study(config)


def test_the_report_says_what_the_pretraining_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "sweep", lambda *_: None)
    context = open_context(HEAD)
    train = context.data.train.with_unlabeled(context.data.train.images[:200])
    data = dataclasses.replace(context.data, train=train)
    other = dataclasses.replace(context, data=data)
    monkeypatch.setattr(run_module, "open_context", lambda _: other)
    report = run_study(dataclasses.replace(HEAD, out=str(tmp_path / "out"))).folder / "report.md"
    assert "456 training (256 with labels) and 128 test images" in report.read_text()


def test_study_yaml_has_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "sweep", lambda *_: None)
    result = run_study(dataclasses.replace(HEAD, out=str(tmp_path / "out")))
    description = yaml.safe_load((result.folder / "study.yaml").read_text())
    assert description["study"] == "projection-head"
    assert description["recipe"]["epochs"] == open_context(HEAD).config.epochs
    assert result.findings.table == "No cell is finished."
    assert "No cell is finished." in (result.folder / "report.md").read_text()


def test_taken_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(RunFolderError, match="exists and is not the folder of a study"):
            run_study(dataclasses.replace(HEAD, out=str(out)))
    with pytest.raises(RunFolderError, match="cannot create"):
        run_study(dataclasses.replace(HEAD, out=str(tmp_path / "notes.txt" / "out")))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"- a list\n", r"study\.yaml is not the file of a study"),
        (b"study: [cut off", r"study\.yaml cannot be read \(while parsing"),
        (b"\xff\xfe\xff", r"study\.yaml cannot be read \("),
    ],
)
def test_a_damaged_study_yaml_is_refused(tmp_path: Path, contents: bytes, message: str) -> None:
    (tmp_path / "study.yaml").write_bytes(contents)
    with pytest.raises(RunFolderError, match=message):
        run_study(dataclasses.replace(HEAD, out=str(tmp_path)))


def test_a_study_that_was_interrupted_at_its_start_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "sweep", lambda *_: None)
    (tmp_path / "study.yaml.partial").write_text("study: proj")
    run_study(dataclasses.replace(HEAD, out=str(tmp_path)))
    assert [path.name for path in tmp_path.glob("study.yaml*")] == ["study.yaml"]


def test_cells_that_cannot_be_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(HEAD, out=str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "sweep", lambda *_: None)
        run_study(config)
    (tmp_path / "cells").write_text("mine")
    with pytest.raises(RunFolderError, match=r"cannot create .*cells: File exists"):
        run_study(config)


def test_another_recipe_is_refused_with_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "sweep", lambda *_: None)
    config = dataclasses.replace(HEAD, out=str(tmp_path / "out"))
    run_study(config)
    context = open_context(config)
    model = dataclasses.replace(context.config.model, width=4)
    recipe = dataclasses.replace(context.config, epochs=7, model=model)
    other = dataclasses.replace(context, config=recipe)
    monkeypatch.setattr(run_module, "open_context", lambda _: other)
    with pytest.raises(RunFolderError) as refused:
        run_study(config)
    differing = "recipe.epochs (1 there, 7 now), recipe.model.width (8 there, 4 now)"
    assert str(refused.value).partition("with other values: ")[2] == differing


def test_wrong_data_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.npz: no such file"):
        run_study(dataclasses.replace(HEAD, data="gone.npz", out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_failed_cell_makes_the_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = load_study("projection-head")
    numbers = itertools.count()

    def measure(cell: object, context: object) -> list[dict[str, str | int | float]]:
        if next(numbers) == 1:
            raise ArithmeticError("no numbers today")
        return [{"linear": 0.5, "knn": 0.5}]

    broken = dataclasses.replace(study, measure=measure)
    for module in ("run", "sweep"):
        monkeypatch.setattr(f"simclr_ext.studies.engine.{module}.load_study", lambda name: broken)
    out = tmp_path / "out"
    assert cli.main(["study", "projection-head", "--out", str(out), "--threads", "1"]) == 1
    captured = capsys.readouterr()
    assert "failed: head=mlp,dim=32,seed=0: ArithmeticError: no numbers today" in captured.out
    assert "`head=mlp,dim=32,seed=0`: ArithmeticError" in (out / "report.md").read_text()
    assert cli.main(["study", "projection-head", "--out", str(out), "--threads", "1"]) == 0
    assert "failed" not in (out / "report.md").read_text()


def test_a_study_runs_in_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simclr_ext.trainer.lock._WAIT", 0.0)
    config = dataclasses.replace(HEAD, out=str(tmp_path))
    with locked(tmp_path), pytest.raises(RunFolderError, match="another process is at work"):
        run_study(config)
