"""Fuzzes one reader by atheris, in a process that ends at the first fault; see `__main__.py`.

python -m tests.fuzz.one READER [options of libFuzzer] [corpus]
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

_GUIDING = ["PIL", "csv", "gzip", "json", "simclr_ext", "tarfile", "yaml", "zipfile"]


def main() -> None:
    """Read mutated files until the time is over, or an error is none of the package's."""
    import atheris  # for which `make fuzz` has a folder of its own

    with atheris.instrument_imports(include=_GUIDING):
        from tests.fuzz.targets import ALLOWED, TARGETS

    name, *options = sys.argv[1:]
    read = TARGETS[name].read
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:

        def one(contents: bytes) -> None:
            try:
                read(Path(folder), contents)
            except ALLOWED:
                return

        atheris.Setup([name, *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
