"""Runs that torchrun starts: signals, killed processes, restarts, errors, numbers of ranks."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from simclr_ext.trainer import ModelConfig, MonitorConfig, OptimConfig, TrainConfig, resume, train
from simclr_ext.trainer.model.checkpoint import load_checkpoint
from tests.trainer.helpers import write_folder

ROOT = Path(__file__).parents[3]
TIMEOUT = 120.0  # seconds of a run
CONFIG = TrainConfig(
    image_size=8,
    epochs=3,
    batch_size=359,  # four steps an epoch
    threads=1,
    evaluate=False,
    model=ModelConfig(width=4, blocks=(1, 1), projection_dim=8),
    optim=OptimConfig(learning_rate=0.01, warmup_epochs=1),
    monitor=MonitorConfig(knn_every=2, checkpoint_steps=3, metrics_every=2, loggers=("csv",)),
)
# The command line, in which one rank sends a signal to itself after a step of its first attempt.
PROGRAM = """
import os, sys
from simclr_ext import cli
from simclr_ext.trainer.commands import train as command

pretrain = command.pretrain
place = tuple(map(int, sys.argv[1:3]))
first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

def steps(*arguments, **options):
    for state in pretrain(*arguments, **options):
        if first and place == (int(os.environ["RANK"]), state.step):
            os.kill(os.getpid(), int(sys.argv[3]))
        yield state

command.pretrain = steps
sys.exit(cli.main(sys.argv[4:]))
"""


def command(
    program: Sequence[str | int], *arguments: str | Path, ranks: int = 2, restarts: int = 0
) -> list[str]:
    """Return torchrun's command; `program` is its script, or the module of the package."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    options = [f"--nproc-per-node={ranks}", f"--max-restarts={restarts}"]
    return [*launcher, *options, *map(str, program), "train", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def torchrun(
    folder: Path, program: Sequence[str | int], *arguments: str | Path, **options: int
) -> subprocess.CompletedProcess[str]:
    """Run in a folder."""
    return subprocess.run(
        command(program, *arguments, **options),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd=folder,
        env=environment(),
    )


MODULE = ("-m", "simclr_ext")


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    config = dataclasses.replace(CONFIG, **changes)
    path.write_text(yaml.safe_dump(config.to_dict()))
    return path


def write_program(folder: Path) -> Path:
    path = folder / "program.py"
    path.write_text(PROGRAM)
    return path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state_of(folder: Path) -> dict[str, Any]:
    state = load_checkpoint(folder / "checkpoint.pt").training
    assert state is not None
    return state


def ours(stderr: str, kind: str) -> list[str]:
    """Return the lines of one kind that the program itself has written, such as its errors."""
    start = f"simclr-ext: {kind}: "
    return [line.removeprefix(start) for line in stderr.splitlines() if line.startswith(start)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return train(dataclasses.replace(CONFIG, out=str(out))).folder


def assert_like(folder: Path, whole: Path) -> None:
    """Fail unless a run has the measurements of the run of one process."""
    found, expected = rows(folder), rows(whole)
    assert [row["step"] for row in found] == ["4", "8", "12"]
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("loss", "entropy", "positive_similarity", "learning_rate"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4), name
        assert bool(ours["knn_accuracy"]) == bool(theirs["knn_accuracy"])
    weights = load_checkpoint(folder / "checkpoint.pt").model.state_dict()
    expected_weights = load_checkpoint(whole / "checkpoint.pt").model.state_dict()
    assert list(weights) == list(expected_weights)
    assert not list(folder.glob("*.partial"))


def test_a_whole_run_with_its_evaluation(tmp_path: Path) -> None:
    config = write_config(tmp_path, evaluate=True, out="run", epochs=2)
    done = torchrun(tmp_path, MODULE, "--config", config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder: run") == done.stdout.count("| raw pixels ") == 1
    for text in ("1,437 training images", "training: 2 epochs", "epoch 2/2", "raw pixels, 1 of 3"):
        assert done.stderr.count(text) == 1, done.stderr
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"pairs.png", "tsne.png", "evaluation.json", "best.pt", "checkpoint.pt"} <= names


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_one_rank_saves_once_for_all(
    number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    config, program = write_config(tmp_path, out="run"), write_program(tmp_path)
    done = torchrun(tmp_path, [program, 1, 5, int(number)], "--config", config)
    assert done.returncode != 0
    text = "saved after step 5; to resume: simclr-ext train --resume run"
    assert ours(done.stderr, "interrupted") == [text]
    assert done.stderr.count(f"exitcode  : {128 + number}") == 2, done.stderr
    assert state_of(tmp_path / "run")["step"] == 5
    if number == signal.SIGTERM:  # one process goes on with what two have begun
        resume(tmp_path / "run")
        assert_like(tmp_path / "run", whole)


def test_a_killed_rank_ends_the_others_and_three_go_on(whole: Path, tmp_path: Path) -> None:
    config, program = write_config(tmp_path, out="run"), write_program(tmp_path)
    start = time.monotonic()
    done = torchrun(tmp_path, [program, 1, 5, int(signal.SIGKILL)], "--config", config)
    assert done.returncode != 0
    assert time.monotonic() - start < 60
    assert state_of(tmp_path / "run")["step"] == 4  # the end of the epoch
    for text in ours(done.stderr, "error"):
        assert text.startswith("another process of the job has ended")
        assert text.endswith("then resume: simclr-ext train --resume run")
    again = torchrun(tmp_path, MODULE, "--resume", "run", ranks=3)
    assert again.returncode == 0, again.stderr
    assert_like(tmp_path / "run", whole)


def test_torchrun_restarts_a_run_in_its_own_folder(whole: Path, tmp_path: Path) -> None:
    config, program = write_config(tmp_path), write_program(tmp_path)
    arguments = [program, 0, 5, int(signal.SIGKILL)]
    done = torchrun(tmp_path, arguments, "--config", config, restarts=1)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    text = f"restarted by torchrun: runs/{folder.name} is resumed"
    assert done.stderr.count(text) == 1
    assert "resumed after step 4" in done.stderr
    assert_like(folder, whole)


def test_a_folder_of_another_run_is_refused_and_not_resumed(whole: Path, tmp_path: Path) -> None:
    before = (whole / "checkpoint.pt").read_bytes()
    config = write_config(tmp_path, out=str(whole), epochs=9)
    done = torchrun(tmp_path, MODULE, "--config", config, restarts=1)
    assert done.returncode != 0
    text = f"out: {whole} exists and is not empty; runs are never overwritten"
    assert ours(done.stderr, "error") == [text] * 2  # of each attempt
    assert (whole / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message", "ranks"),
    [
        (["--data", "nowhere"], "nowhere", 2),
        (["--batch_size", "0"], "batch_size must be at least 2, got 0", 2),
        (["--data=digits", "--batch_size=2"], "at least 3, the number of processes, got 2", 3),
        (["--resume", "gone"], "gone: not a run that can be resumed", 2),
    ],
    ids=["no data", "options", "few images", "no run"],
)
def test_an_error_is_reported_once(
    arguments: list[str], message: str, ranks: int, tmp_path: Path
) -> None:
    done = torchrun(tmp_path, MODULE, *arguments, ranks=ranks)
    assert done.returncode != 0
    (text,) = ours(done.stderr, "error")
    assert message in text
    assert "exitcode  : 2 " in done.stderr.partition("Root Cause")[2], done.stderr
    assert not (tmp_path / "runs").exists()


def test_sigterm_to_torchrun_while_workers_decode_files(tmp_path: Path) -> None:
    """It signals whole process groups: the workers, too."""
    write_folder(tmp_path / "pets", [(20, 16), (16, 24)], per_class=40)
    config = write_config(
        tmp_path,
        data=str(tmp_path / "pets"),
        workers=1,
        batch_size=10,
        image_size=16,
        epochs=10_000,
        out="run",
        monitor=MonitorConfig(knn_every=0, checkpoint_steps=5, loggers=("csv",)),
    )
    process = subprocess.Popen(
        command(MODULE, "--config", config),
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    try:
        wait_for(tmp_path / "run" / "metrics.csv")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    (line,) = ours(stderr, "interrupted")  # beside warnings, if it came late
    assert line.startswith("saved after step ")
    step = int(line.partition("after step ")[2].partition(";")[0])
    assert state_of(tmp_path / "run")["step"] == step > 0


def wait_for(path: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not written"
        time.sleep(0.2)
