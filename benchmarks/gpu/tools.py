"""Programs and packages that the steps need: where they are, and which are missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.gpu.job import Skipped

# Usual places of toolkits' programs, below the root.
_PLACES = (
    "usr/local/cuda/bin",
    "usr/local/cuda/compute-sanitizer",
    "usr/local/cuda-*/bin",
    "usr/local/cuda-*/compute-sanitizer",
    "opt/nvidia/nsight-compute/*",
)


def find(program: str) -> str | None:
    """Return the path of a program, from the PATH or a toolkit's usual place; None: not found."""
    newest_first = (sorted(Path("/").glob(place), reverse=True) for place in _PLACES)
    folders = [str(folder) for found in newest_first for folder in found]
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(folders))


def require(program: str) -> str:
    """Return the path of a program.

    Raises:
        Skipped: If it is not there.
    """
    path = find(program)
    if path is None:
        places = ", ".join(f"/{place}" for place in _PLACES)
        raise Skipped(f"{program} is missing: neither on the PATH nor in {places}")
    return path


def on_path(program: str) -> None:
    """Put the folder of a program on this process's PATH, if it is found."""
    path = find(program)
    if path is not None and shutil.which(program) is None:
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), str(Path(path).parent)])


def missing(device: str) -> tuple[list[str], list[str]]:
    """Return which requirements of all steps are missing, and which of single steps."""
    needed = ["torch", *(["nvcc", os.environ.get("CXX", "g++")] if device != "cpu" else [])]
    wanted = ["triton"]
    wanted += ["ncu", "compute-sanitizer", "nvidia-smi"] if device != "cpu" else []
    return [name for name in needed if not _is_there(name)], [n for n in wanted if not _is_there(n)]


def _is_there(name: str) -> bool:
    if name in ("torch", "triton"):
        return importlib.util.find_spec(name) is not None
    return find(name) is not None


def output_of(*command: str, seconds: float = 20.0) -> str | None:
    """Return what a program prints, without the last newline; None if it fails or is not there."""
    path = find(command[0])
    if path is None:
        return None
    try:
        result = subprocess.run(
            [path, *command[1:]], capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
