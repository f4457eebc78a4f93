"""The programs that tests call, found in a virtual environment even if it is not activated."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

_FOLDERS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
CMAKE = shutil.which("cmake", path=_FOLDERS) or "cmake"
