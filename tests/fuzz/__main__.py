"""Reads mutated files of every kind that others may have written: `make fuzz`.

    python -m tests.fuzz --seconds 3600           # divided among the readers
    python -m tests.fuzz --seconds 60 image tar   # these alone
    python -m tests.fuzz image --file build/fuzz/image-crash-...    # what was found, once more

A reader may refuse a file with one of the package's errors. Any other error, more than 3 GiB of
memory, or 20 seconds for one file is a fault, and the file is kept in build/fuzz. Every fault that
was found has its test.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "fuzz"
_LIMITS = ("-rss_limit_mb=3072", "-timeout=20", "-max_len=16384")


def main() -> int:
    """Fuzz the readers; print how many files each has read, and return the number of faults."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="for all readers together")
    parser.add_argument("--file", type=Path, help="a file that the reader reads once")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    options = parser.parse_args()
    if unknown := set(options.readers) - set(TARGETS):
        parser.error(f"readers are {', '.join(TARGETS)}, got {', '.join(sorted(unknown))}")
    names = options.readers or list(TARGETS)
    if options.file is not None:
        with tempfile.TemporaryDirectory() as folder:
            TARGETS[names[0]].read(Path(folder), options.file.read_bytes())
        return 0
    KEPT.mkdir(parents=True, exist_ok=True)
    faults = 0
    for name in names:
        with tempfile.TemporaryDirectory() as corpus:
            for number, seed in enumerate(TARGETS[name].seeds()):
                (Path(corpus) / f"seed-{number}").write_bytes(seed)
            found, text = fuzz(name, corpus, options.seconds / len(names), options.seed)
        faults += found
        print(f"{name}: {text}", flush=True)
    return faults


def fuzz(name: str, corpus: str, seconds: float, seed: int) -> tuple[bool, str]:
    """Fuzz one reader in a process of its own; return whether it failed, and what to say."""
    command = [sys.executable, "-m", "tests.fuzz.one", name, *_LIMITS, corpus]
    command += [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}"]
    command += [f"-artifact_prefix={KEPT}/{name}-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    output = done.stdout + done.stderr
    if ended := re.search(r"Done (\d+) runs in (\d+) second", output):
        return False, f"{int(ended[1]):,} files in {ended[2]} s, no fault"
    return True, f"a fault\n{output[-4000:]}"


if __name__ == "__main__":
    sys.exit(main())
