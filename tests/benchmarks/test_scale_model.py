from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scale_model
from benchmarks.scale_model import H100, cost


@pytest.mark.parametrize("method", scale_model.METHODS)
def test_twice_the_ranks_have_half_the_work(method: str) -> None:
    few, many = (cost(method, 2**20, ranks) for ranks in (64, 128))
    assert many.compute == pytest.approx(few.compute / 2)
    assert many.exchange > few.exchange / 2


def test_memory_of_a_ring_is_of_own_rows_alone() -> None:
    few, many = (cost("ring", 2**20, ranks).memory for ranks in (8, 64))
    assert many == pytest.approx(few / 8)
    assert cost("gather", 2**20, 64).memory > 2 * 2**20 * scale_model.DIM * H100.element


def test_a_fast_network_leaves_the_computation() -> None:
    fast = replace(H100, node=1e18, network=1e18, alpha_node=0.0, alpha_network=0.0)
    for method in ("gather", "ring"):
        found = cost(method, 2**16, 512, fast)
        assert found.exchange < 1e-6
        assert found.compute == pytest.approx(4 * 2**34 * 128 / 512 / H100.products)


def test_what_does_not_fit_has_no_time() -> None:
    row = next(line for line in scale_model.table().splitlines() if "| 16,777,216 | 8 |" in line)
    assert row.count(" ms") + row.count(" s,") == 2
    assert row.rstrip(" |").endswith("GB)")


def test_calibration(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "machine,torch,n,d,ranks,cores,loss,ms\n"
        'm,t,4096,128,1,4,"simclr-ext, gather",600\n'
        'm,t,4096,128,2,4,"simclr-ext, gather",300\n'
        "m,t,4096,128,2,4,lightly,1000\n"
    )
    text = scale_model.calibration(path)
    assert "| simclr-ext, gather, 2 ranks | 300 ms | 3" in text
    assert "lightly" not in text
    assert "The largest error of the model is +" in text


def test_chart_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scale_model.main(["--plot", str(tmp_path / "model.png")]) == 0
    assert (tmp_path / "model.png").stat().st_size > 10_000
    assert capsys.readouterr().out.startswith("A model, not a measurement.")
