"""The programs that tests call, found in a virtual environment even if it is not activated."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
CMAKE = shutil.which("cmake", path=_FOLDERS) or "cmake"


def built(target: str) -> Path:
    """Compile a target of CMakeLists.txt, and return the folder.

    It is that of `make test-cpp`, which may have left the objects there: they take minutes.
    """
    build = ROOT / "build" / "cmake"
    build.mkdir(parents=True, exist_ok=True)
    with FileLock(build / ".lock"):
        for command in (
            [CMAKE, "-S", ROOT, "-B", build, f"-DPython_EXECUTABLE={sys.executable}"],
            [CMAKE, "--build", build, "--parallel", "2", "--target", target],
        ):
            subprocess.run(command, check=True, capture_output=True)
    return build


def must_succeed(
    command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command, in a folder; if it fails, end with what it printed."""
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)
