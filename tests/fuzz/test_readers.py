"""Every reader reads mutated files, or refuses them; `make fuzz` reads far more."""

import random
import warnings
from pathlib import Path

import pytest

from tests.fuzz.targets import ALLOWED, TARGETS

_FILES = 40  # of each reader
_EXTREME = (b"\x00", b"\x7f", b"\x80", b"\xff")


def mutated(contents: bytes, draw: random.Random) -> bytes:
    """Return a file with a few bytes flipped, set to an extreme, left out, or doubled."""
    changed = bytearray(contents)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(changed) + 1)
        part = slice(start, min(len(changed), start + 2 ** draw.randrange(6)))
        size = part.stop - part.start
        kind = draw.choice(("flip", "set", "leave out", "double"))
        if kind == "flip" and size:
            changed[start] ^= 1 << draw.randrange(8)
        elif kind == "set":
            changed[part] = draw.choice(_EXTREME) * size
        elif kind == "leave out":
            del changed[part]
        else:
            changed[start:start] = changed[part]
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    target, draw = TARGETS[name], random.Random(name)
    seeds = list(target.seeds())
    files = [*seeds, *(mutated(seeds[number % len(seeds)], draw) for number in range(_FILES))]
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for contents in files:
            try:
                target.read(tmp_path, contents)
            except ALLOWED:
                refused += 1
    assert 0 < refused < len(files)
