"""The comparison of two runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import compare
import rows
from tests.benchmarks.helpers import failed, row


def verdict(before: rows.Row, after: rows.Row, relative: bool = False) -> str:
    (change,) = compare.compare([before], [after], relative)
    return change.verdict


def test_changes_within_the_spread_are_none() -> None:
    assert verdict(row(ms=10.0), row(ms=10.9)) == "same"  # quartiles to 10.5, from 10.36
    assert verdict(row(ms=10.0), row(ms=11.2)) == "slower"  # from 10.64
    assert verdict(row(ms=11.2), row(ms=10.0)) == "faster"
    wide = row(ms=11.2, ms_low=8.0)
    assert verdict(row(ms=10.0), wide) == "same"


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


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "speed.csv"
    for name, ms in (("2026-01-01 00:00:00", 10.0), ("2026-01-02 00:00:00", 20.0)):
        rows.append(path.with_name(rows.RUNS), rows.RUN_COLUMNS, [{"run": name}])
        rows.append(path, rows.COLUMNS, [vars(row(run=name, ms=ms))])
    return path


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
