"""The programs that tests call, found in a virtual environment even if it is not activated."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_FOLDERS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
CMAKE = shutil.which("cmake", path=_FOLDERS) or "cmake"


def must_succeed(
    command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command, in a folder; if it fails, end with what it printed."""
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)
