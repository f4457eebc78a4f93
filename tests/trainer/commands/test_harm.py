"""Nothing that was saved is lost, whatever happens to a run, to its files or to its data."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ext import cli
from simclr_ext.options.errors import CheckpointError, TrainingInterrupted
from simclr_ext.trainer import TrainConfig, resume, train
from simclr_ext.trainer.model.checkpoint import load_checkpoint, save_checkpoint
from simclr_ext.trainer.training.health import TrainingWarning
from tests.trainer.commands.test_resume import CONFIG, assert_same, copy, whole

__all__ = ["copy", "whole"]  # fixtures


def test_killed_and_short_of_space_and_resumed_as_if_unharmed() -> None:
    """`python -m tests.kills` and `tests.full_disk` do the same more often."""
    program = (
        "import pathlib, random, tempfile, torch; from tests import full_disk, kills, unharmed\n"
        "torch.set_num_threads(1); folder = tempfile.TemporaryDirectory()\n"
        "kind = unharmed.training(pathlib.Path(folder.name))\n"
        "failed = kills.kill('train', kind, 2, random.Random(0))\n"
        "kind.root /= 'disk'; kind.root.mkdir()\n"
        "raise SystemExit(failed + full_disk.fill(kind, every=20))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 ended for space" not in done.stdout


def signal_while_writing(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send SIGTERM in the middle of the checkpoint after step 6."""
    save = torch.save

    def interrupted(contents: dict[str, Any], file: Any) -> None:
        if (contents["training"] or {}).get("step") == 6:
            monkeypatch.setattr(torch, "save", save)
            file.write(b"")
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGTERM)
        save(contents, file)

    monkeypatch.setattr(torch, "save", interrupted)


@pytest.mark.parametrize(("times", "error"), [(1, TrainingInterrupted), (2, KeyboardInterrupt)])
def test_a_signal_while_a_checkpoint_is_written(
    times: int,
    error: type[BaseException],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one waits until the file is whole; the second one ends at once."""
    signal_while_writing(times, monkeypatch)
    with pytest.raises(error):
        train(dataclasses.replace(CONFIG, out=str(tmp_path / "run")))
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt").training
    assert state is not None
    assert state["step"] == (7 if times == 1 else 4)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", whole)


def test_a_start_that_was_killed_before_its_first_checkpoint_is_not_in_the_way(
    whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (".lock", "checkpoint.pt.partial"):
        (folder / name).write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is missing; start a new one"):
        resume(folder)
    train(dataclasses.replace(CONFIG, out=str(folder)))
    assert_same(folder, whole)


def test_what_is_missing_beside_the_checkpoints_is_written_again(copy: Path, whole: Path) -> None:
    names = ("config.yaml", "images.csv", "metrics.csv", "pairs.png", "loss.png")
    for name in names:
        (copy / name).unlink()
    resume(copy)
    for name in names:
        assert (copy / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    "contents",
    [b"", b"\x89PNG", b"epoch,step\n1,x\n", b"\xff\xfe"],
    ids=["", "half", "other", "not text"],
)
def test_damaged_measurements_and_pictures_are_written_again(
    contents: bytes, copy: Path, whole: Path
) -> None:
    for name in ("metrics.csv", "pairs.png", "loss.png"):
        (copy / name).write_bytes(contents)
    resume(copy)
    assert_same(copy, whole)
    for name in ("pairs.png", "loss.png"):
        assert (copy / name).read_bytes() == (whole / name).read_bytes()


def test_the_checkpoint_of_another_run_is_refused(copy: Path, whole: Path, tmp_path: Path) -> None:
    other = train(dataclasses.replace(CONFIG, out=str(tmp_path / "other"), seed=1, epochs=2))
    shutil.copy(other.folder / "checkpoint.pt", copy)
    with pytest.raises(CheckpointError, match=r"config.yaml differs .* seed \(0 there, 1 in chec"):
        resume(copy)
    shutil.copy(whole / "best.pt", copy / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="has no state to resume from"):
        resume(copy)


def test_the_state_of_another_network_is_refused(copy: Path) -> None:
    path = copy / "checkpoint.pt"
    found = load_checkpoint(path)
    assert found.training is not None
    momentum = found.training["optimizer"]["state"][0]
    momentum["momentum_buffer"] = torch.zeros(1, 1)
    save_checkpoint(path, found.model, found.config, found.epoch, found.training)
    with pytest.raises(CheckpointError, match=r"momentum_buffer is \[1, 1\] for a weight \[4, 1"):
        resume(copy)


def folder_of_images(root: Path) -> TrainConfig:
    """Write images of two sizes, and return a run on them."""
    for number in range(24):
        folder = root / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + number % 3, 8), 10 * number).save(folder / f"{number:02}.png")
    return dataclasses.replace(
        CONFIG, data=str(root / "photos"), out=str(root / "run"), batch_size=8, workers=0
    )


def rename(photos: Path) -> None:
    (photos / "a" / "04.png").rename(photos / "a" / "05.png")


def move(photos: Path) -> None:
    for name in ("a/04.png", "b/05.png"):  # another class: others are held out
        (photos / name).rename(photos / ("b" if name[0] == "a" else "a") / name[2:])


@pytest.mark.parametrize("change", [rename, move])
def test_other_images_under_a_run_are_refused(
    change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(folder_of_images(tmp_path)).folder
    before = (folder / "checkpoint.pt").read_bytes()
    change(tmp_path / "photos")
    with pytest.raises(CheckpointError, match=r"are no longer those of the run, which images\.csv"):
        resume(folder, epochs=4)
    assert (folder / "checkpoint.pt").read_bytes() == before


def test_other_pixels_under_a_run_are_said(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    config = dataclasses.replace(CONFIG, data=str(tmp_path / "a.npy"), batch_size=16)
    folder = train(dataclasses.replace(config, out=str(tmp_path / "run"))).folder
    resume(folder, epochs=4)
    np.save(tmp_path / "a.npy", 255 - images)
    with pytest.warns(TrainingWarning, match="pixels of the training images have changed since"):
        resume(folder, epochs=5)


def test_a_run_of_an_older_version_without_marks_resumes(copy: Path) -> None:
    path = copy / "checkpoint.pt"
    found = load_checkpoint(path)
    assert found.training is not None
    for name in ("ids", "pixels"):
        del found.training[name]
    save_checkpoint(path, found.model, found.config, found.epoch, found.training)
    resume(copy, epochs=4)
    state = load_checkpoint(path).training
    assert state is not None
    assert state["ids"]


@pytest.mark.parametrize(
    "command", ["train", "embed", "export", "pages", "eval", "finetune", "study"]
)
def test_an_output_path_that_is_a_file(
    command: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.txt"
    out.write_text("mine")
    first = {"train": ["--data=digits"], "study": ["projection-head"]}.get(command, [str(whole)])
    assert cli.main([command, *first, "--out", str(out)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("simclr-ext: error: out: ")
    assert str(out) in error
    assert out.read_text() == "mine"


def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    """The second is refused, at the start and when it would resume, and says why."""
    program = (
        "import dataclasses, sys; from simclr_ext.trainer import Callback, resume, train\n"
        "from simclr_ext.trainer import lock; lock._WAIT = 0.0\n"
        "from tests.trainer.commands.test_resume import CONFIG\n"
        "from simclr_ext.options.errors import RunFolderError\n"
        "config = dataclasses.replace(CONFIG, out=sys.argv[1])\n"
        "if sys.argv[2] == 'first':\n"
        "    class Wait(Callback):\n"
        "        def on_step(self, training):\n"
        "            if training.step == 2:\n"
        "                print('ready', flush=True); sys.stdin.readline()\n"
        "    train(config, callbacks=[Wait()])\n"
        "else:\n"
        "    for act in (lambda: train(config), lambda: resume(config.out)):\n"
        "        try: act()\n"
        "        except RunFolderError as error: print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    with subprocess.Popen(
        [*command, "first"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        second = subprocess.run([*command, "second"], capture_output=True, text=True)
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.wait() == 0
    assert second.stdout.splitlines() == [
        f"out: {tmp_path}/run exists and is not empty; runs are never overwritten",
        f"{tmp_path}/run: another process is at work in this folder",
    ], second.stderr
