"""`simclr-ext bench` on tiny shapes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from simclr_ext import cli
from simclr_ext.bench import BenchConfig, command, run_bench
from simclr_ext.bench.baselines import eager
from simclr_ext.bench.command import BenchResult, Result
from simclr_ext.bench.measure import Timing
from simclr_ext.options.errors import ConfigError, DeviceError

TINY = BenchConfig(n=12, d=5, seconds=0.01, threads=1)


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command.BASELINES, "torch.compile", eager)


@pytest.mark.parametrize(("backward", "dtype"), [(True, "float32"), (False, "bfloat16")])
def test_a_table_and_a_recommendation(backward: bool, dtype: str) -> None:
    threads = torch.get_num_threads()
    result = run_bench(dataclasses.replace(TINY, backward=backward, dtype=dtype, threads=1))
    assert torch.get_num_threads() == threads
    assert [row.name for row in result.results] == ["fused", "tiled", "eager", "torch.compile"]
    for row in result.results:
        assert row.status == "ok"
        assert row.timing is not None
        assert 0 < row.timing.low <= row.timing.median <= row.timing.high
    assert result.floor is not None
    assert 0 < result.floor < 1e-3
    lines = str(result).splitlines()
    assert f"N = 12, D = 5, {dtype}, T = 0.5, cpu, 1 thread, " in lines[0]
    assert lines[-1] == result.recommendation


def results(**milliseconds: float) -> tuple[Result, ...]:
    return tuple(
        Result(name.replace("_", "."), "ok", Timing(x / 1e3, x / 1e3, x / 1e3, 3, 0.0), 2**20)
        for name, x in milliseconds.items()
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"fused": 1, "tiled": 2, "eager": 3}, "Use nt_xent_loss(z0, z1), which picks fused."),
        ({"fused": 3, "tiled": 2, "eager": 9}, 'Use nt_xent_loss(z0, z1, backend="tiled").'),
        ({"fused": 3, "torch_compile": 2}, "The fastest is torch.compile. Of the backends use"),
        ({"eager": 3}, "No backend runs here; the fastest is eager."),
        ({}, "None of these can compute"),
    ],
    ids=["the default", "another backend", "no backend", "no backend runs", "nothing runs"],
)
def test_recommendation(times: dict[str, float], expected: str) -> None:
    result = BenchResult(TINY, results(**times), None, "fused", 1)
    assert result.recommendation.startswith(expected)


def test_what_fails_is_a_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        return 2 * eager(z0, z1, t)

    def huge(z0: Tensor, z1: Tensor, t: float) -> Tensor:
        if len(z0) > command.CHECKED:
            torch.empty(2**60)
        return eager(z0, z1, t)

    monkeypatch.setitem(command.BASELINES, "eager", wrong)
    monkeypatch.setitem(command.BASELINES, "torch.compile", huge)
    result = run_bench(dataclasses.replace(TINY, n=command.CHECKED + 1))
    statuses = {row.name: row.status for row in result.results}
    assert statuses["fused"] == statuses["tiled"] == "ok"
    assert statuses["eager"].startswith("failed: ValueError: relative errors")
    assert statuses["torch.compile"] == "out of memory"
    assert "torch.compile out of memory" in str(result)


def test_busy_machines_are_told() -> None:
    timing = Timing(1e-3, 1e-3, 1e-3, 3, foreign=0.4)
    text = str(BenchResult(TINY, (Result("fused", "ok", timing),), None, "fused", 1))
    assert "Other processes took 40% of the processors" in text


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n", 0, "n must be at least 1, got 0"),
        ("d", 2.5, "d must be an integer, got 2.5"),
        ("dtype", "int8", "dtype must be"),
        ("temperature", 0.0, "temperature must be positive and finite, got 0.0"),
        ("threads", 0, "threads must be null or at least 1, got 0"),
        ("seconds", -1.0, "seconds must be positive"),
    ],
)
def test_wrong_options(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TINY, **{field: value})


def test_unknown_device() -> None:
    with pytest.raises(DeviceError, match=r"such as cpu, cuda, cuda:1 or mps, got 'gpu'$"):
        run_bench(dataclasses.replace(TINY, device="gpu"))
    with pytest.raises(DeviceError, match="device 'meta' cannot be used: "):
        run_bench(dataclasses.replace(TINY, device="meta"))


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--n", "12", "--d", "5", "--seconds", "0.01", "--threads", "1"]) == 0
    assert "N = 12, D = 5, float32" in capsys.readouterr().out
    assert cli.main(["bench", "--n", "-3"]) == 2
    assert "n must be at least 1, got -3" in capsys.readouterr().err
