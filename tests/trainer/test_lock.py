"""One process at a time works in a folder, and a killed process leaves no lock."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simclr_ext.options.errors import RunFolderError
from simclr_ext.trainer import lock
from simclr_ext.trainer.lock import locked

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from simclr_ext.trainer.lock import locked

with locked(Path(sys.argv[1])):
    child = os.fork() if sys.argv[2] == "fork" else 1
    if child == 0:  # as a worker does, which looks for its parent now and then
        time.sleep(1)
        os._exit(0)
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["alone", "fork"], ids=["alone", "with a worker"])
def test_a_lock_ends_with_its_process(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with monkeypatch.context() as patch:
            patch.setattr(lock, "_WAIT", 0.0)
            with pytest.raises(RunFolderError, match="another process is at work"):
                locked(tmp_path).__enter__()
        os.kill(process.pid, signal.SIGKILL)
        with locked(tmp_path):
            pass


def test_a_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with locked(tmp_path):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / lock.LOCK).mkdir()
    with pytest.raises(RunFolderError, match="cannot be locked: Is a directory"):
        locked(tmp_path).__enter__()
