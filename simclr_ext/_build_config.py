"""Sources and flags of the compiled extension: one list for every way of building it.

``setup.py`` (ahead of time) and ``_backend.py`` (at first use) read it as Python,
``CMakeLists.txt`` as the JSON that running this file prints. Standard library only: ``setup.py``
and CMake run it where the package, or torch, cannot be imported.
"""

from __future__ import annotations

import json
from pathlib import Path

# Portable code: the instruction set is chosen at run time (csrc/cpu/simd), so no -march here.
# Contraction lets a * b + c become one instruction where there is one; no other fast-math.
COMPILE_ARGS = ["-O3", "-fopenmp", "-ffp-contract=fast"]
LINK_ARGS = ["-fopenmp"]


def source_dir() -> Path:
    """Return the folder of the C++ sources, in an installed package or in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "csrc"
    return installed if installed.is_dir() else package.parent / "csrc"


def sources() -> list[Path]:
    """Return every source file of the extension, in a fixed order."""
    return sorted(source_dir().rglob("*.cpp"))


def headers() -> list[Path]:
    """Return every file that the sources include, in a fixed order."""
    folder = source_dir()
    return sorted([*folder.rglob("*.h"), *folder.rglob("*.inl")])


if __name__ == "__main__":
    config = {
        "sources": [str(source) for source in sources()],
        "compile_args": COMPILE_ARGS,
        "link_args": LINK_ARGS,
    }
    # CMake reads lists as words between semicolons.
    print(json.dumps({key: ";".join(values) for key, values in config.items()}))
