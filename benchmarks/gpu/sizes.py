"""The sizes that a table of cases combines; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Which cases are checked.

    Attributes:
        dims: D, every class of the kernels, padded and full.
        sizes: N, ragged: one tile, several, strips of several tiles.
        temperatures: T, with and without a shared shift.
        large: N and D of a case with offsets beyond 2^31, or none.
    """

    dims: tuple[int, ...]
    sizes: tuple[int, ...]
    temperatures: tuple[float, ...]
    large: tuple[int, int] | None = None
