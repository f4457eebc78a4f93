"""Steps in their own processes: one that hangs, crashes or is killed costs one job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import ROOT
from benchmarks.gpu import main as command_line
from benchmarks.gpu import tools
from benchmarks.gpu.results import Results

SCRIPT = ROOT / "benchmarks" / "gpu_check.py"


def command(plan: str, folder: Path, *options: str) -> list[str]:
    where = f"tests.benchmarks.gpu.planted:{plan}"
    base = [sys.executable, str(SCRIPT), "--device", "cpu", "--out", str(folder), "--plan", where]
    return [*base, *options]


def run(plan: str, folder: Path, *options: str) -> tuple[int, str, dict[str, str]]:
    """Return exit code, output, and the status of each job."""
    result = subprocess.run(
        command(plan, folder, *options), capture_output=True, text=True, check=False, cwd=folder
    )
    return result.returncode, result.stdout + result.stderr, statuses(folder)


def statuses(folder: Path) -> dict[str, str]:
    return {row["job"]: row["status"] for row in Results(folder / "results.jsonl").of_jobs()}


def acted(folder: Path) -> list[str]:
    return (folder / "acted").read_text().splitlines()


def test_a_hanging_job_is_lost_alone(tmp_path: Path) -> None:
    code, output, found = run("HANGING_JOB", tmp_path)
    assert code == 1
    assert found == {"one": "ok", "hang": "lost", "two": "ok", "three": "ok"}
    assert "LOST hang: beyond its own limit" in output
    (row,) = (r for r in Results(tmp_path / "results.jsonl").of_jobs() if r["job"] == "hang")
    assert any("in act" in line for line in row["log"])  # where it hung
    assert acted(tmp_path) == ["one", "hang", "two", "three"]


def test_a_job_that_dies_or_raises_is_a_result(tmp_path: Path) -> None:
    code, output, found = run("DYING_JOB", tmp_path)
    assert code == 1
    assert found == {"die": "lost", "one": "ok", "raise": "failed", "skip": "skipped", "two": "ok"}
    assert "its process ended with SIGSEGV" in output
    assert "ValueError: planted" in output


def test_a_step_whose_jobs_keep_dying_is_given_up(tmp_path: Path) -> None:
    code, _, found = run("DYING_AGAIN", tmp_path)
    assert code == 1
    assert found == {f"die {i}": "lost" for i in (1, 2, 3, 4)} | {"two": "ok"}
    assert Results(tmp_path / "results.jsonl").status_of_steps() == {
        "first": "gave up",
        "second": "done",
    }


def test_a_step_beyond_its_limit_is_cut(tmp_path: Path) -> None:
    code, output, found = run("HANGING_STEP", tmp_path)
    assert code == 1
    assert found == {"one": "ok", "hang": "lost", "three": "ok"}
    assert "killed at the step's limit of 8 s" in output
    assert "not done: first" in output


def test_a_module_that_does_not_load_costs_its_step(tmp_path: Path) -> None:
    code, _, found = run("BROKEN", tmp_path)
    assert code == 1
    assert found == {"one": "ok"}
    (end,) = (
        row
        for row in Results(tmp_path / "results.jsonl").rows()
        if row["step"] == "first" and row.get("event") == "end"
    )
    assert end["status"] == "gave up"
    assert "No module named 'no'" in end["log"][-1]


def test_steps_that_need_kernels_or_a_gpu_are_left_out_without(tmp_path: Path) -> None:
    _, output, found = run("WITHOUT_KERNELS", tmp_path)
    assert found == {"two": "ok"}
    assert "first: skipped: the kernels could not be built" in output
    assert "second: skipped: it needs a CUDA device, not cpu" in output


def test_killed_in_the_middle_all_before_is_there_and_resume_goes_on(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    with subprocess.Popen(command("SLOW", tmp_path), stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while results.under_way("second") != "hang" and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert statuses(tmp_path) == {"one": "ok", "two": "ok", "three": "ok"}
    with results.path.open("a") as file:
        file.write('{"step": "second", "jo')  # as if it had been killed while it wrote
    assert statuses(tmp_path) == {"one": "ok", "two": "ok", "three": "ok"}

    (tmp_path / "no hanging").touch()
    code, _, found = run("SLOW", tmp_path, "--resume")
    assert code == 0
    assert found == dict.fromkeys(("one", "two", "three", "hang", "four", "five"), "ok")
    assert acted(tmp_path) == ["one", "two", "three", "hang", "hang", "four", "five"]


def test_the_process_of_a_step_ends_with_its_parent(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    with subprocess.Popen(command("SLOW", tmp_path), stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while results.under_way("second") != "hang" and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(tmp_path)


def running(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it ended just now
            continue
        if str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found


def test_time_for_all_steps_is_kept_and_resume_finishes(tmp_path: Path) -> None:
    code, output, found = run("SLOW", tmp_path, "--minutes", "0.2")
    assert code == 3
    assert "not done: second, third; --resume runs the rest" in output
    assert "hang" not in found  # not lost: it is done again
    (tmp_path / "no hanging").touch()
    code, _, found = run("SLOW", tmp_path, "--resume")
    assert code == 0
    assert set(found.values()) == {"ok"}


def test_results_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(json.dumps({"step": "first", "job": "one"}) + "\n")
    code, output, _ = run_expecting_refusal(tmp_path)
    assert code == 1
    assert "--resume resumes it" in output


def run_expecting_refusal(folder: Path) -> tuple[int, str, None]:
    result = subprocess.run(
        command("SLOW", folder), capture_output=True, text=True, check=False, cwd=folder
    )
    return result.returncode, result.stderr, None


def test_what_is_missing_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools, "find", lambda program: None)
    with pytest.raises(SystemExit, match=r"^gpu_check needs nvcc, g\+\+: not found$"):
        command_line.main(["--device", "cuda", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(tools, "find", lambda program: {"nvcc": "x", "g++": "x"}.get(program))
    needed, wanted = tools.missing("cuda")
    assert needed == []
    assert set(wanted) - {"triton"} == {"ncu", "compute-sanitizer", "nvidia-smi"}


def test_cuda_is_refused_where_torch_sees_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "find", lambda program: "/bin/true")
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit, match="--device cuda: torch sees no CUDA device"):
        command_line.main(["--out", str(tmp_path / "out")])
