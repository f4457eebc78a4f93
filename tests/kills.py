"""Kills trainings and studies at random moments, resumes them, and compares with one that was not.

    python -m tests.kills --times 50                  # of each: ten minutes on one core
    python -m tests.kills --times 2 --what train      # as in the tests

A process is killed by SIGKILL at a moment between its start and its end, drawn uniformly; so is,
half of the time, the one that resumes it. What is resumed to the end has every file of a run that
was not killed: checkpoints to the last bit, the same rows, pictures and accuracies, and nothing
half-written.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from tests.unharmed import Kind, run, study, training

KINDS: dict[str, Callable[[Path], Kind]] = {"train": training, "study": study}


def main() -> int:
    """Kill as often as asked; return the number of runs that did not end as they should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="runs of each kind")
    parser.add_argument("--what", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.what:
            root = Path(folder) / f"unit {name} ü"  # every path of a run has such characters
            root.mkdir()
            failed += kill(name, KINDS[name](root), options.times, random.Random(options.seed))
    return failed


def kill(name: str, kind: Kind, times: int, moments: random.Random) -> int:
    """Kill one kind of run and resume it; print and return how many were not as if unharmed."""
    whole, begin = kind.root / "whole", time.monotonic()
    status, text = run(lambda: kind.start(whole))
    if status != 0:
        sys.exit(text)
    seconds = time.monotonic() - begin
    found: Counter[str] = Counter()
    kills = failed = 0
    for number in range(times):
        folder, act = kind.root / f"run {number}", kind.start
        after = moments.uniform(0, seconds)
        while (ended := run(functools.partial(act, folder), after))[0] == -signal.SIGKILL:
            kills += 1
            act = kind.go_on
            after = moments.uniform(0, seconds) if moments.random() < 0.5 else math.inf
        status, text = ended
        wrong = [text[-2000:]] if status else [*kind.differences(folder, whole)]
        found.update(wrong)
        failed += bool(wrong)
    print(f"{name}: {times} runs of {seconds:.1f} s, {kills} kills, {failed} not as if unharmed")
    for line, count in found.most_common():
        print(f"  {count} times: {line}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
