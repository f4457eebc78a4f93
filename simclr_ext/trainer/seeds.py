"""Random numbers without a state: every use has its own seed, derived from the run's.

The order of an epoch, and the views and the dropout of a step, depend only on the run's seed and
the numbers of epoch, step and chunk, not on earlier draws. So a resumed run draws the same numbers
as an uninterrupted one, and both passes over a chunk see the same views.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """Uses of random numbers."""

    ORDER = 0
    VIEWS = 1
    CROPS = 2
    HELD_OUT = 3


def derive_seed(seed: int, stream: Stream, first: int = 0, second: int = 0) -> int:
    """Return the seed of one use, such as the views of step `first`, chunk `second`."""
    sequence = np.random.SeedSequence([seed, stream, first, second])
    return int(sequence.generate_state(1, np.uint64)[0])


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on a device with the given seed."""
    return torch.Generator(device).manual_seed(seed)


def another(random: torch.Generator, number: int) -> torch.Generator:
    """Return a generator whose numbers depend on one number, and on another's next one."""
    drawn = torch.randint(2**62, (), generator=random, device=random.device)
    return generator(int(drawn) + number, random.device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global random state, which dropout uses, and restore it at the end."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
