"""The benchmark of a shared machine: rows are whole, and the busy processes end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.loss import shared


def test_rows_are_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.torch, "compile", lambda loss, dynamic: loss)
    out = tmp_path / "shared.csv"
    shared.main(["--n", "4", "--busy", "0", "1", "--seconds", "0.1", "--out", str(out)])
    text = shared.table(out)
    assert "| 4 | 0 | " in text
    assert "| 4 | 1 | " in text
    assert text.count("(1.0x)") >= 3


def test_busy_processes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(popen(command))
        return started[-1]

    monkeypatch.setattr(shared.subprocess, "Popen", start)
    with shared.busy_processes(2):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.returncode is not None for process in started)
