"""The comparison of two runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.loss import compare, rows
from tests.benchmarks.loss.helpers import failed, row


def verdict(before: rows.Row, after: rows.Row, relative: bool = False) -> str:
    (change,) = compare.compare([before], [after], relative)
    return change.verdict


def test_changes_within_the_spread_are_none() -> None:
    assert verdict(row(ms=10.0), row(ms=10.9)) == "same"  # quartiles to 10.5, from 10.36
    assert verdict(row(ms=10.0), row(ms=11.2)) == "slower"  # from 10.64
    assert verdict(row(ms=11.2), row(ms=10.0)) == "faster"
    wide = row(ms=11.2, ms_low=8.0)
    assert verdict(row(ms=10.0), wide) == "same"


def test_small_changes_are_none_however_narrow_the_spread() -> None:
    narrow = {"ms_low": 10.0, "ms_high": 10.0}
    assert verdict(row(ms=10.0, **narrow), row(ms=10.4, ms_low=10.4, ms_high=10.4)) == "same"
    assert verdict(row(ms=10.0, **narrow), row(ms=9.6, ms_low=9.6, ms_high=9.6)) == "same"
    assert verdict(row(ms=10.0, **narrow), row(ms=10.6, ms_low=10.6, ms_high=10.6)) == "slower"


def test_relative_to_the_machine() -> None:
    slow_day = row(ms=20.0, mm_gflops=50.0)
    assert verdict(row(), slow_day) == "slower"
    assert verdict(row(), slow_day, relative=True) == "same"


def test_what_only_one_run_timed() -> None:
    before = [row(n=1), failed("out of memory", n=2), failed("out of memory", n=3), row(n=5)]
    after = [failed("out of memory", n=1), row(n=2), failed("out of memory", n=3), row(n=4)]
    changes = compare.compare(before, after)
    found = {(change.after or change.before).n: change.verdict for change in changes}  # type: ignore[union-attr]
    assert found == {1: "gone", 2: "new", 4: "new", 5: "gone"}


def test_every_part_of_a_shape_counts() -> None:
    others = [row(d=64), row(dtype="bfloat16"), row(temperature=0.1), row(threads=1)]
    for other in (*others, row(what="forward"), row(peer="eager"), row(n=7)):
        changes = compare.compare([row()], [other])
        assert sorted(change.verdict for change in changes) == ["gone", "new"]


def write_runs(path: Path, *runs: rows.Row) -> Path:
    """Write runs of one row each, on days of their own, and return the file."""
    for day, measured in enumerate(runs, start=1):
        name = f"2026-01-0{day} 00:00:00"
        rows.append(path.with_name(rows.RUNS), rows.RUN_COLUMNS, [{"run": name}])
        rows.append(path, rows.COLUMNS, [vars(measured) | {"run": name}])
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_runs(tmp_path / "speed.csv", row(ms=10.0), row(ms=20.0))


def test_script(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["2026-01-01", "--results", str(results)]) == 1
    text = capsys.readouterr().out
    assert "1 slower" in text
    assert "| 2.000 | **slower** |" in text
    assert compare.main(["2026-01-02", "2026-01-01", "--results", str(results)]) == 0
    assert "| 0.500 | **faster** |" in capsys.readouterr().out
    assert compare.main(["2026-01-01", "2026-01-01", "--results", str(results)]) == 0
    with pytest.raises(SystemExit):
        compare.main(["2027", "--results", str(results)])
    assert "no run '2027'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        (row(peer="eager"), row(peer="eager", ms=20.0), 0),
        (row(peer="simclr-ext tiled"), row(peer="simclr-ext tiled", ms=20.0), 1),
        (row(), failed("out of memory"), 1),
        (row(), row(n=7), 0),  # another plan
    ],
    ids=["a peer slower", "tiled slower", "ours failed", "ours not tried"],
)
def test_the_exit_code_is_about_our_backends(
    before: rows.Row, after: rows.Row, code: int, tmp_path: Path
) -> None:
    path = write_runs(tmp_path / "speed.csv", before, after)
    assert compare.main(["2026-01-01", "2026-01-02", "--results", str(path)]) == code
