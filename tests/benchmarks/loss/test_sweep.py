"""A small plan, from the measurement to the report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.loss import memory, peers, report, rows, sweep
from benchmarks.loss.cases import FULL, QUICK, Case
from benchmarks.loss.tables import all_tables, goals, largest, times
from simclr_ext.bench import machine
from simclr_ext.bench.baselines import eager
from simclr_ext.bench.measure import Timing
from tests.benchmarks.loss.helpers import run_of_three

TINY = dataclasses.replace(
    QUICK,
    sizes=(8, 16),
    memory_from=99,
    memory_beside=True,
    both=(8,),
    dims=(5,),
    side=8,
    dtypes=("float64",),
    temperatures=(0.01,),
    single=(8,),
    seconds=0.01,
)
PROBES = set(machine.probes())
SOME = [peer for peer in peers.PEERS if peer.name in (peers.OURS, "eager")]


@pytest.fixture(autouse=True)
def _instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time be measured: a call takes 2 ms, of a machine of 17 TFLOP/s.

    tests/bench/ tests the timing, with a simulated clock; on a busy machine times mean nothing.
    """

    def instant(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Timing]:
        for call in (calls[name] for name in calls if name not in PROBES):
            call()
        return {name: Timing(t := 1e-3 if name in PROBES else 2e-3, t, t, 3, 0.0) for name in calls}

    monkeypatch.setattr(sweep, "interleaved", instant)


def measure(peer: peers.Peer, plan: sweep.Plan = TINY, n: int = 8) -> dict[str, object]:
    """Return the row of one peer at one size."""
    one = sweep.Sweep(plan, {peer.name: (peer, peer.load())})
    (found,) = one.measure(Case(n, 5, threads=1))
    return found


def test_a_run_is_appended_and_reported(tmp_path: Path) -> None:
    out = tmp_path / "results" / "speed.csv"
    gpu = peers.Peer("gpu", lambda: eager, devices=("cuda",))
    first = sweep.run(TINY, [*SOME, gpu], 2, out, "tiny")
    text = out.read_text()
    run, measured = rows.of_run(first, out)
    assert run["plan"] == "tiny"
    assert run["torch"] == torch.__version__
    assert run["skipped"] == "gpu: skipped: runs on cuda only"
    shapes = {row.shape for row in measured}
    assert len(measured) == len({row.key for row in measured}) == 2 * len(shapes)
    assert ("forward", 8, 128, "float32", 2, 0.5) in shapes
    assert ("forward + backward", 16, 128, "float32", 2, 0.5) in shapes
    assert ("forward + backward", 8, 5, "float32", 2, 0.5) in shapes
    assert ("forward + backward", 8, 128, "float64", 2, 0.5) in shapes
    assert ("forward + backward", 8, 128, "float32", 2, 0.01) in shapes
    assert ("forward + backward", 8, 128, "float32", 1, 0.5) in shapes
    for row in measured:
        assert row.status == "ok"
        assert (row.ms, row.ms_low, row.ms_high) == (2, 2, 2)
        assert 0 < row.floor_ms < 0.01  # type: ignore[operator]
        assert row.mm_gflops == pytest.approx(2 * 2048**3 / 1e-3 / 1e9, rel=1e-4)

    assert report.main(["--results", str(out), "--out", str(tmp_path / "report")]) == 0
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert f"| run | {first} |" in markdown
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<svg") == 1
    assert not re.search(r'(src|href)="(?!#)', page)  # nothing from elsewhere

    # Never rewritten, only added to.
    rows.append(out, rows.COLUMNS, [vars(measured[0])])
    assert out.read_text().startswith(text)


def test_failures_are_rows() -> None:
    def wrong(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        return 1.01 * eager(z0, z1, t)

    def huge(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        torch.empty(2**60)
        return eager(z0, z1, t)

    row = measure(peers.Peer("wrong", lambda: wrong))
    assert str(row["status"]).startswith("failed: ValueError: relative errors 1.0e-02")
    assert "ms" not in row
    row = measure(peers.Peer("huge", lambda: huge))
    assert row["status"] == "out of memory"
    row = measure(peers.Peer("greedy", lambda: eager, in_torch=False))
    assert row["status"] == "skipped: its number of threads cannot be set"


def test_what_was_too_large_or_would_take_too_long_is_not_tried() -> None:
    calls: list[int] = []

    def counted(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        calls.append(len(z0))
        if len(z0) == 32:
            raise MemoryError
        return eager(z0, z1, t)

    peer = peers.Peer("counted", lambda: counted)
    one = sweep.Sweep(TINY, {"counted": (peer, counted)})
    statuses = [one.measure(Case(n, 5, threads=1))[0]["status"] for n in (16, 32, 64)]
    assert statuses == ["ok", "out of memory", "out of memory"]
    assert set(calls) == {16, 32}
    one.measure(Case(64, 3, threads=1))  # of a smaller D it is tried
    assert set(calls) == {16, 32, 64}
    hasty = sweep.Sweep(dataclasses.replace(TINY, longest=1e-9), {"counted": (peer, counted)})
    statuses = [hasty.measure(Case(n, 5, threads=1))[0]["status"] for n in (16, 64)]
    assert statuses == ["ok", "skipped: a call would take about 0 s"]


def test_threads_below_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweep.main(["--threads", "0", "--out", str(tmp_path / "speed.csv")])
    assert "--threads must be at least 1, got 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_memory_of_a_process_of_its_own() -> None:
    case = Case(2048, 16, threads=1)
    dense = 4096**2 * 4 / 2**20  # MiB of one 2N x 2N matrix
    found = memory.usage("eager", case, 2**33)
    assert found["status"] == "ok"
    assert 2 * dense < found["rss_mib"] < 5 * dense  # type: ignore[operator]
    assert found["allocated_mib"] == pytest.approx(found["rss_mib"], rel=0.2)
    assert memory.usage("eager", case, int(1.5 * dense * 2**20)) == {"status": "out of memory"}


def test_of_the_memory_of_jax_torch_says_nothing() -> None:
    pytest.importorskip("optax")
    assert set(memory.usage("jax", Case(256, 16, threads=1), 2**33)) == {"status", "rss_mib"}


def test_a_process_that_dies_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(4, 4, threads=1)
    assert memory.usage("no such peer", case, 2**30)["status"] == "failed: KeyError: 'no such peer'"
    status = memory.usage("eager", case, 2**30, timeout=0.01)["status"]
    assert status == "failed: no result within 0 s"


def test_plans_cover_what_the_project_promises() -> None:
    full = list(FULL.cases(2))
    assert {case.n for case in full} >= {2**k for k in range(4, 17)}
    assert {case.d for case in full} >= {32, 64, 128, 256, 512, 1024, 2048}
    assert {case.threads for case in full} == {1, 2}
    assert {case.threads for case in QUICK.cases(1)} == {1}
    for plan in (FULL, QUICK):
        keys = [dataclasses.replace(case, what=(), memory=False) for case in plan.cases(2)]
        assert len(keys) == len(set(keys))  # none twice


def test_tables_of_a_run() -> None:
    run = run_of_three()
    table = times(run)
    assert table.header == ("N", "simclr-ext", "eager", "lightly")
    assert table.body[0] == ["1,024", "10", "35 (3.5x)", "60 (6.0x)"]
    assert table.body[-1] == ["8,192", "640", "2,240 (3.5x)", "out of memory"]
    assert goals(run).body[0] == ["times faster than eager, N = 4,096", "6", "3.50, missed"]
    assert goals(run).body[2][-1] == "not measured"
    # 50 MiB at 1,024, quadratic: 1 GiB at 1024 sqrt(1024 / 50) = 4,634.
    assert largest(run).body[1] == ["eager", "4,634", "~9,300", "~19,000"]
    for table in all_tables({"run": "x", "commit": "y"}, run):
        assert all(len(line) == len(table.header) for line in table.body)
        assert f"## {table.title}" in table.markdown()


def test_unknown_runs_and_peers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        report.main(["--results", str(tmp_path / "none.csv")])
    assert "there are no results" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        sweep.main(["--peers", "eager,nobody", "--out", str(tmp_path / "x.csv")])
    assert "known are simclr-ext" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
