"""The benchmark of the adapters: pairs agree, rows are whole, factors are theirs over ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.loss import swap
from simclr_ext.bench.measure import check, views


@pytest.mark.parametrize("pair", swap.SWAPS, ids=lambda pair: f"{pair.library} {pair.loss}")
def test_pairs_agree(pair: swap.Swap) -> None:
    try:
        theirs = pair.made("theirs", torch.float64)
    except ImportError as error:
        pytest.skip(str(error))
    inputs = views(12, swap.DIM)
    assert check(pair.made("ours"), theirs, inputs, swap.TEMPERATURE) < 1e-4


def test_another_loss_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("info_nce")
    pair = next(pair for pair in swap.SWAPS if pair.loss == "InfoNCE")
    monkeypatch.setattr("info_nce.InfoNCE", lambda _: lambda z0, z1: (z0 * z1).sum())
    with pytest.raises(ValueError, match="relative errors"):
        swap.measure(pair, 12)


def test_rows_are_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightly")
    monkeypatch.setattr(swap, "SWAPS", swap.SWAPS[:1])
    monkeypatch.setattr(swap, "SECONDS", 0.1)
    swap.main(["--sizes", "4,8", "--out", str(tmp_path / "swap.csv")])
    rows = swap.read(tmp_path / "swap.csv")
    assert [row["n"] for row in rows] == ["4", "8"]
    for row in rows:
        assert set(row) == set(swap.COLUMNS)
        assert row["theirs_status"] == row["ours_status"] == "ok"
        assert float(row["error"]) < 1e-4
        assert float(row["ours_ms"]) > 0
        assert float(row["theirs_mib"]) > 0
    assert swap.table(rows).count("x |") == 4


def row(**values: Any) -> dict[str, str]:
    made = {"library": "a", "loss": "B", "theirs_ms": 30, "ours_ms": 10, "theirs_mib": 99}
    made |= {"ours_mib": 2, "theirs_status": "ok", "n": 4}
    return {name: str(value) for name, value in (made | values).items()}


def test_table() -> None:
    failed = {"theirs_ms": "", "theirs_mib": "", "theirs_status": "out of memory"}
    text = swap.table([row(), row(n=8, **failed)])
    assert text.splitlines()[0].split(" | ")[1:] == [
        "time, N = 4",
        "time, N = 8",
        "memory, N = 4",
        "memory, N = 8 |",
    ]
    assert text.splitlines()[-1] == "| a: B | 3.0x | out of memory | 50x | out of memory |"
