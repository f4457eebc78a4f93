"""Progress: a bar if stderr is a terminal, otherwise lines."""

import io
import sys

import pytest

from simclr_ext.trainer import progress
from simclr_ext.trainer.progress import Progress, each, say


class Clock:
    """A clock that the test advances."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_line_for_each_part_with_the_time_left(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    for name, seconds in each("baking", [("bread", 100), ("rolls", 20), ("cake", 7)]):
        assert name in ("bread", "rolls", "cake")
        clock.now += seconds
    assert capsys.readouterr().err == (
        "baking: bread, 1 of 3, 03:20 left\n"
        "baking: rolls, 2 of 3, 01:00 left\n"
        "baking: cake, 3 of 3, 00:00 left\n"
    )


def test_steps_done_before_count_in_the_total_and_not_in_the_rate(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with Progress("study", total=10, done=7) as progress:
        clock.now += 30
        progress.advance("cell 8")
        say("a word")
    assert capsys.readouterr().err == "study: cell 8, 8 of 10, 01:00 left\na word\n"


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    names = [name for name, _ in each("baking", [("bread", 0), ("rolls", 0)])]
    assert names == ["bread", "rolls"]
    shown = terminal.getvalue()
    assert "\r" in shown
    assert "baking: 100%" in shown
    assert "2 of 2" not in shown
