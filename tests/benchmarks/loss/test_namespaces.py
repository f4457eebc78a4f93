from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.loss import namespaces


def test_what_stands_in_the_way_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "tc" else tool)
    assert namespaces.main([]) == 1
    out = capsys.readouterr().out
    assert out == "cannot make two hosts here: tc not found; apt-get install iproute2\n"
    monkeypatch.setattr("shutil.which", lambda tool: tool)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert namespaces.main([]) == 1
    assert "it takes root" in capsys.readouterr().out


def test_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        ",".join(namespaces.COLUMNS)
        + "\n"
        + "m,t,4096,128,0,0.0,ours,300,8.25\n"
        + "m,t,4096,128,0,0.0,theirs,2000,9\n"
        + "m,t,4096,128,1000,2.5,ours,350,8.25\n"
        + "m,t,4096,128,1000,2.5,theirs,2100,9\n"
    )
    assert namespaces.table(path).splitlines()[2:] == [
        "| link | ours | theirs |",
        "|---|---:|---:|",
        "| no limit | 300 ms | 2,000 ms |",
        "| 1,000 Mbit/s, 2.5 ms each way | 350 ms | 2,100 ms |",
        "| sent by a rank | 8.2 MiB | 9.0 MiB |",
    ]
