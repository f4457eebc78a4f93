"""The page that is made from a file of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import main as command_line
from benchmarks.gpu.model import fused, prediction, wide
from benchmarks.gpu.model.figures import BUSY, GPUS
from benchmarks.gpu.model.instructions import kernels, of_file
from benchmarks.gpu.results import Results

H100 = "NVIDIA H100 80GB HBM3"


def timing(ms: float) -> dict[str, Any]:
    return {"ms": ms, "low": ms * 0.9, "high": ms * 1.1, "method": "graph"}


def write(path: Path) -> None:
    results = Results(path)

    def job(step: str, key: str, status: str = "ok", **found: Any) -> None:
        results.append({"step": step, "job": key, "status": status, "seconds": 1.0, **found})

    results.append({"step": "environment", "event": "start"})
    job("environment", "environment", GPU=H100, torch="2.11.0+cu130")
    results.append({"step": "environment", "event": "end", "status": "done", "seconds": 2.0})
    results.append({"step": "cases", "event": "start"})
    fault = {
        "quantity": "grad_z0",
        "configuration": "float32, D class 128, shared shift",
        "kernel": "backward_kernel",
        "error": 1.0,
        "budget": 0.1,
        "wrong": 3,
        "of": 9,
        "first": {"index": [5, 70], "expected": 1.5, "found": 2.5},
        "rows mod 128": [5],
        "columns mod 64": [6],
    }
    job("cases", "fused float32 N=1000 D=128 T=0.5", "failed", faults=[fault])
    job("cases", "fused bfloat16 N=1000 D=128 T=0.5")
    for precision in ("bfloat16", "float32"):
        point = {"precision": precision, "n": 65_536, "d": 128}
        key = f"{precision} N=65536 D=128"
        timings = {"forward": timing(5.0), "backward": timing(15.0), "both": timing(20.0)}
        job("timings", key, **point, timings=timings, tflops={"forward": 440.0, "backward": 580.0})
        timings = {"both": timing(21.0), "triton": timing(60.0)}
        timings["eager"] = {"status": "out of memory"}
        job("beside", key, **point, timings=timings)
    job("rates", "copy", **timing(0.5), gb_per_s=2800.0)
    peers = {"torch.compile": timing(30.0), "fused": timing(10.0)}
    job(
        "peers",
        "x",
        peer="torch.compile",
        problem="NT-Xent",
        precision="bfloat16",
        n=8,
        d=4,
        timings=peers,
    )
    kernel = {"kernel": "forward_kernel", "metrics": {"gpu__time_duration.sum [ns]": 123456.0}}
    job("counters", "bfloat16 16384 128 0.5", kernels=[kernel])
    job("probes", "mma bf16", **{"as cut off": 0.99})
    job("demo", "demo", "skipped", reason="the trainer needs tqdm")


def test_the_page_has_measurements_beside_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "results.jsonl")
    assert command_line.main(["--table", str(tmp_path / "results.jsonl")]) == 0
    page = capsys.readouterr().out
    lines = page.splitlines()
    expected = prediction.milliseconds(H100, "bfloat16", 65_536, 128)
    assert (
        f"| bfloat16 | 65,536 | 128 | 5 [4.5, 5.5] | {expected['forward']:.3g} | 440 | "
        f"15 [13.5, 16.5] | {expected['backward']:.3g} | 580 | 20 [18, 22] | 60 [54, 66] | "
        "out of memory |  |"
    ) in lines
    assert any(line.startswith("| float32 (checks failed) | 65,536 |") for line in lines)
    assert (
        "    - grad_z0 (float32, D class 128, shared shift); backward_kernel; first wrong [5, 70]: "
        "expected 1.5, found 2.5; 3 of 9 wrong; rows mod 128 [5]; columns mod 64 [6]; error "
        "1.00e+00, budget 1.00e-01"
    ) in lines
    assert "| cases | cut | 1 | 1 | 0 | 0 | 0 |  |" in lines
    assert "| copy | 0.5 [0.45, 0.55] |  | 2,800 |" in lines
    assert "| torch.compile | bfloat16 | 8 | 4 | 30 [27, 33] | 10 [9, 11] | 3.00 |" in lines
    assert any("| forward_kernel | 123456.0 |" in line for line in lines)
    assert "- probes, mma bf16: ok, as cut off 0.99" in lines
    assert "- demo, demo: the trainer needs tqdm" in lines


def test_predictions_are_those_of_the_model() -> None:
    forward, backward = prediction.milliseconds(H100, "float32", 4096, 100).values()
    rows = kernels("sm_90a", "Tf32x3", 100, of_file())
    gpu, busy = GPUS["H100"], BUSY.value
    clocks = {launch.kernel: launch.clocks for launch in fused.step(rows, gpu, 8192, busy)}
    gap = 1e3 * 0.5e-6
    assert forward == pytest.approx(
        1e3 * sum(clocks[name] for name in ("prepare", "forward", "finish")) / gpu.clock + 3 * gap
    )
    assert backward == pytest.approx(1e3 * sum(clocks.values()) / gpu.clock - forward + 6 * gap)
    assert prediction.milliseconds("NVIDIA H200", "float32", 4096, 100)["forward"] == forward
    assert prediction.milliseconds("NVIDIA L40S", "float32", 4096, 100)["forward"] > forward
    for card in ("NVIDIA L4", "NVIDIA L40"):
        assert prediction.milliseconds(card, "float32", 4096, 100) == {}
    expected = wide.of_passes(GPUS["H100"], wide.square(8192), 8192, 300)
    assert prediction.milliseconds(H100, "bfloat16", 4096, 300) == expected
    assert prediction.milliseconds(H100, "float32", 4096, 300) == {}
    assert prediction.milliseconds(H100, "float64", 4096, 100) == {}
