"""Sweeps: finished cells are not run again, and a failed cell does not affect the others."""

import operator
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from simclr_ext.options.errors import RunFolderError, TrainingInterrupted
from simclr_ext.studies.config import StudyConfig
from simclr_ext.studies.engine import sweep as sweeps
from simclr_ext.studies.engine.report import reason
from simclr_ext.studies.engine.scales import open_context
from simclr_ext.studies.engine.study import Cell, Context, Findings, Row, Study
from simclr_ext.studies.engine.sweep import outcomes, sweep

CONFIG = StudyConfig("projection-head", threads=1)


@pytest.fixture(scope="module")
def context() -> Context:
    return open_context(CONFIG)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cells that a study measured, which it does by looking at their variants."""
    found: list[str] = []

    def measure(cell: Cell, context: Context) -> list[Row]:
        assert context.config.seed == cell.seed
        found.append(cell.id)
        if cell.variant["x"] == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        if cell.variant["x"] == "broken":
            raise ValueError("the\ncause")
        return [{"y": 1.5}, {"y": 2.5}]

    study = Study(
        title="T",
        question="Q?",
        source="none",
        variants=lambda scale: [],
        measure=measure,
        draw=lambda rows: Figure(),
        findings=lambda rows: Findings(""),
    )
    monkeypatch.setattr(sweeps, "load_study", lambda name: study)
    return found


def cells(*variants: str) -> list[Cell]:
    return [Cell({"x": variant}, seed=3) for variant in variants]


def test_rows_have_variant_and_seed(context: Context, measured: list[str], tmp_path: Path) -> None:
    sweep(CONFIG, cells("a"), context, tmp_path)
    (outcome,) = outcomes(tmp_path, cells("a"))
    assert outcome.rows == ({"x": "a", "seed": 3, "y": 1.5}, {"x": "a", "seed": 3, "y": 2.5})
    assert outcome.seconds > 0


def test_a_finished_cell_is_never_run_again(
    context: Context, measured: list[str], tmp_path: Path
) -> None:
    sweep(CONFIG, cells("a", "b"), context, tmp_path)
    sweep(CONFIG, cells("a", "b", "c"), context, tmp_path)
    assert measured == ["x=a,seed=3", "x=b,seed=3", "x=c,seed=3"]


def test_a_failed_cell_is_reported_and_tried_again_and_the_rest_go_on(
    context: Context, measured: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(CONFIG, cells("a", "broken", "b"), context, tmp_path)
    assert [outcome.error is None for outcome in outcomes(tmp_path, cells("a", "broken", "b"))] == [
        True,
        False,
        True,
    ]
    assert "failed: x=broken,seed=3" in "".join(capsys.readouterr())
    text = (tmp_path / "cells" / "x=broken,seed=3.error").read_text()
    assert text.startswith("ValueError: the cause\n\nTraceback")
    assert text.endswith("ValueError: the\ncause\n")
    assert reason(outcomes(tmp_path, cells("broken"))[0]) == "ValueError: the cause"
    sweep(CONFIG, cells("a", "broken", "b"), context, tmp_path)
    assert measured[3:] == ["x=broken,seed=3"]


def test_a_cell_that_succeeds_at_last_has_no_error(
    context: Context, measured: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cells").mkdir()
    error = tmp_path / "cells" / "x=a,seed=3.error"
    error.write_text("of an earlier attempt")
    assert outcomes(tmp_path, cells("a"))[0].error == "of an earlier attempt"
    sweep(CONFIG, cells("a"), context, tmp_path)
    assert not error.exists()
    assert outcomes(tmp_path, cells("a"))[0].error is None


def test_a_signal_stops_after_the_current_cell(
    context: Context, measured: list[str], tmp_path: Path
) -> None:
    grid = cells("a", "stop", "b")
    with pytest.raises(TrainingInterrupted, match="2 of 3 cells are finished in") as interruption:
        sweep(CONFIG, grid, context, tmp_path)
    assert interruption.value.signal == signal.SIGTERM
    assert [outcome.cell.id for outcome in outcomes(tmp_path, grid)] == [
        "x=a,seed=3",
        "x=stop,seed=3",
    ]
    sweep(CONFIG, grid, context, tmp_path)
    assert measured == ["x=a,seed=3", "x=stop,seed=3", "x=b,seed=3"]


def test_half_written_cells_do_not_count(
    context: Context, measured: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "x=a,seed=3.json.partial").write_text('{"rows": [')
    assert outcomes(tmp_path, cells("a")) == []
    sweep(CONFIG, cells("a"), context, tmp_path)
    assert len(outcomes(tmp_path, cells("a"))) == 1


def test_processes_give_the_rows_of_one_process(context: Context, tmp_path: Path) -> None:
    grid = [Cell({"head": head, "dim": 8}, seed=1) for head in ("linear", "alchemy")]
    found = []
    for jobs in (1, 2):
        config = StudyConfig("projection-head", threads=1, jobs=jobs)
        folder = tmp_path / str(jobs)
        folder.mkdir()
        sweep(config, grid, context, folder)
        found.append(outcomes(folder, grid))
    here, there = found
    assert here[0].rows == there[0].rows
    assert len(here[0].rows) == 1
    for _, failed in found:
        assert failed.error is not None
        assert "ConfigError: model.projection must be" in failed.error


def test_data_that_cannot_be_opened_in_a_process_are_the_cells_error(
    context: Context, tmp_path: Path
) -> None:
    config = StudyConfig("projection-head", data="gone.npz", threads=1, jobs=2)
    sweep(config, cells("a"), context, tmp_path)
    (outcome,) = outcomes(tmp_path, cells("a"))
    assert reason(outcome).startswith("DataError: ")
    assert "gone.npz: no such file" in reason(outcome)


def _finish_and_crash(config: StudyConfig, cell: Cell, folder: Path) -> None:
    (folder / "cells" / f"{cell.id}.json").write_text('{"seconds": 1.0, "rows": []}')
    os._exit(3)


def test_a_process_that_dies_after_its_cell_is_finished_has_no_error(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_child", _finish_and_crash)
    sweep(StudyConfig("projection-head", jobs=2), cells("a"), context, tmp_path)
    assert [path.suffix for path in (tmp_path / "cells").iterdir()] == [".json"]


def test_a_process_that_dies_is_a_failed_cell(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A picklable function that ends the process at once.
    monkeypatch.setattr(sweeps, "_child", operator.index)
    config = StudyConfig("projection-head", jobs=2)
    sweep(config, cells("a", "b"), context, tmp_path)
    errors = [outcome.error for outcome in outcomes(tmp_path, cells("a", "b"))]
    assert errors == ["the cell's process ended with exit code 1\n"] * 2


@pytest.mark.parametrize(
    "contents",
    ["", '{"seconds": 1.0, "rows": [{"y"', "[]", '{"rows": []}', '{"rows": [3], "seconds": 1}'],
    ids=["empty", "cut", "another kind", "a key missing", "no rows"],
)
def test_a_damaged_cell_is_named_before_any_work(
    contents: str, context: Context, measured: list[str], tmp_path: Path
) -> None:
    sweep(CONFIG, cells("a", "b"), context, tmp_path)
    path = tmp_path / "cells" / "x=b,seed=3.json"
    path.write_text(contents)
    with pytest.raises(RunFolderError, match=r"b,seed=3.json is damaged .*: delete it, and this c"):
        sweep(CONFIG, cells("a", "b", "c"), context, tmp_path)
    assert len(measured) == 2
    path.unlink()
    sweep(CONFIG, cells("a", "b", "c"), context, tmp_path)
    assert measured[2:] == ["x=b,seed=3", "x=c,seed=3"]


def test_a_cell_does_not_outlive_a_sweep_that_was_killed() -> None:
    """Otherwise the next one and it would write to the same files."""
    program = (
        "import multiprocessing, time; from simclr_ext.studies.engine import sweep\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    process = spawn.Process(target=sweep._end_with_parent); process.start()\n"
        "    print('started', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        parent.kill()
        # Until the child, which holds the other end, has ended; otherwise an error.
        assert parent.communicate(timeout=60) == (b"", None)
