"""A planted fault, and how it is applied to a copy of the project."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PARTS = (
    *("csrc", "simclr_ext", "tests", "CMakeLists.txt", "cmake"),
    *("setup.py", "pyproject.toml", "README.md", "LICENSE"),
)


@dataclass(frozen=True)
class Fault:
    """A change of one place in the sources that makes them wrong.

    Args:
        name: What is wrong then.
        file: Relative to the root of the project.
        old: Text that occurs once in the file.
        new: What replaces it.
    """

    name: str
    file: str
    old: str
    new: str

    def plant(self, folder: Path) -> None:
        """Plant the fault in a copy of the project."""
        path = folder / self.file
        path.write_text(path.read_text().replace(self.old, self.new))

    def remove(self, folder: Path) -> None:
        """Restore the file in a copy of the project."""
        shutil.copy(ROOT / self.file, folder / self.file)


def misplaced(faults: list[Fault]) -> list[str]:
    """Return a sentence for each fault whose text a refactoring has changed."""
    sentences = []
    for fault in faults:
        path = ROOT / fault.file
        count = path.read_text().count(fault.old) if path.exists() else 0
        if count != 1:
            sentences.append(f"{fault.name}: {fault.old!r} occurs {count} times in {fault.file}")
    return sentences


def copy_project(folder: Path) -> None:
    """Copy the files that are needed to build and test the kernels."""
    for part in _PARTS:
        source = ROOT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(source, folder / part, ignore=ignored)
        else:
            shutil.copy(source, folder / part)
