"""Parsing the output of other programs: ptxas, Nsight Compute, compute-sanitizer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import ROOT
from benchmarks.gpu import build, counters, sanitizer, tools
from benchmarks.gpu.job import Skipped

PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN6simclr5fused15backward_kernelINS0_6ConfigINS0_\
6Tf32x3ELi256ELi2ELi1ELi16EEELb0EEEvNS0_14BackwardParamsE' for 'sm_90a'
ptxas info    : Function properties for _ZN6simclr5fused15backward_kernel
    8 bytes stack frame, 16 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 250 registers, used 1 barriers
ptxas info    : Compiling entry function '_ZN6simclr5fused14prepare_kernelINS0_4Bf16EEEvNS0_13\
PrepareParamsE' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""
NCU = """\
==PROF== Connected to process 7
"ID","Process ID","Kernel Name","Block Size","gpu__time_duration.sum","sm__warps_active.avg.pct"
"","","","","ns","%"
"0","7","forward_kernel","(128, 1, 1)","1,234.5","12.5"
"1","7","backward_kernel","(128, 1, 1)","2000","n/a"
==PROF== Disconnected
"""


def test_registers_are_read() -> None:
    assert build.registers(PTXAS) == [
        {
            "kernel": "backward_kernel Tf32x3 256 2 1 16 0",
            "architecture": "sm_90a",
            "registers": 250,
            "spilled_bytes": 40,
        },
        {
            "kernel": "prepare_kernel Bf16",
            "architecture": "sm_90a",
            "registers": 40,
            "spilled_bytes": 0,
        },
    ]


def test_counters_are_read(tmp_path: Path) -> None:
    (tmp_path / "ncu.csv").write_text(NCU)
    forward, backward = counters.parse(tmp_path / "ncu.csv")
    assert forward["kernel"] == "forward_kernel"
    assert forward["metrics"] == {
        "gpu__time_duration.sum [ns]": 1234.5,
        "sm__warps_active.avg.pct [%]": 12.5,
    }
    assert backward["metrics"]["sm__warps_active.avg.pct [%]"] == "n/a"
    (tmp_path / "empty.csv").write_text("==ERROR== no kernels were profiled\n")
    assert counters.parse(tmp_path / "empty.csv") == []


def fake_sanitizer(
    monkeypatch: pytest.MonkeyPatch, folder: Path, code: int, words: str, seconds: int = 0
) -> None:
    script = folder / "compute-sanitizer"
    script.write_text(
        f'#!/bin/sh\nwhile [ "$1" != --log-file ]; do shift; done\necho "{words}" > "$2"\n'
        f"sleep {seconds}\nexit {code}\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(tools, "find", lambda program: str(folder / program))


@pytest.mark.parametrize(
    ("code", "expected", "status"),
    [
        (0, False, "ok"),
        (9, False, "failed"),
        (9, True, "ok"),
        (0, True, "failed"),
        (1, False, "failed"),
    ],
)
def test_what_the_sanitizer_finds_is_a_fault_unless_planted(
    code: int, expected: bool, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sanitizer(monkeypatch, tmp_path, code, f"ERROR SUMMARY: {code} errors")
    row = sanitizer.watch(tmp_path / "log", "memcheck", ["true"], 20, expected=expected)
    assert row.get("status", "ok") == status
    assert row["summary"] == [f"{code} errors"]


def test_a_sanitizer_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sanitizer(monkeypatch, tmp_path, 0, "so far", seconds=60)
    with pytest.raises(Skipped, match=r"not finished within 0\.5 s"):
        sanitizer.watch(tmp_path / "log", "racecheck", ["true"], 0.5, expected=False)


@pytest.mark.build
@pytest.mark.skipif(tools.find("nvcc") is None, reason="no nvcc")
def test_probes_compile(tmp_path: Path) -> None:
    source = ROOT / "benchmarks" / "gpu" / "probes.cu"
    command = [str(tools.find("nvcc")), "-std=c++20", "-gencode=arch=compute_90a,code=sm_90a"]
    command += ["-I", str(ROOT / "csrc"), "-o", str(tmp_path / "probes"), str(source)]
    subprocess.run(command, check=True)
